"""The outside world, one door each: storage, database, versions, runs."""
