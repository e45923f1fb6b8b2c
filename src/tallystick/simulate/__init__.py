"""What would be: traffic from a seed, cases of a contract, recorded history under a draft. All of it is pure."""
