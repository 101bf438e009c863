"""`pipeline.py connect`: what a cluster keeps inside, on ports of this machine."""
