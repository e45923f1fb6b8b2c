"""What would be: made-up traffic from a seed, cases of a contract, recorded history under a draft. All of it is pure."""
