"""The KFP interface of every step: a folder each. What a step does is in the library, shared_volume/sightline."""
