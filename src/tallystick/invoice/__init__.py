"""The invoice: built from a period's sums and a contract, explained, hashed, compared, and set as documents.

Everything here is a pure function of its arguments. `build` makes the document (`model`) from what `usage` sums
up; `digest` and `canonical` say which bytes its hashes cover; `explain`, `text`, `tables`, `line_rows` and
`request_rows` write it for people and spreadsheets; `facts` and `compare` are what a replay is made of.
"""
