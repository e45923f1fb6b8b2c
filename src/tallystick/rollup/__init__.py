"""What an org's entries come to by day: the rules of adding them up. The database does the same in its own words."""
