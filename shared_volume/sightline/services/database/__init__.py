"""The SQL database: what is published, what ran, and how models scored.

`connection.connect(url)` opens it, `Database.migrate()` makes the tables. Every function returns frozen records and raises a
DatabaseError that says where the database is and what it said, never its password.
"""
