"""The life of an invoice once it is stored: its number, when it is due, what is paid and taken back; who sells to whom;
and the clocks of orgs that only try things out. Pure: time, salts and stored texts are passed in.
"""
