"""What a step needs of its own machine: child processes, memory, threads, devices, private folders."""
