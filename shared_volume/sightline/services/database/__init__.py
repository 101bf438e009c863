"""The SQL database: what is published, what ran, and how models scored. Functions return rows, or frozen parts of them.

What goes wrong is a DatabaseError, which says where the database is and what it said, never its password.
"""
