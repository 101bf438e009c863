"""The SQL database: what is published, what ran, and how models scored. Functions return frozen rows.

What goes wrong is a DatabaseError, which says where the database is and what it said, never its password.
"""
