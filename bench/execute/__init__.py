"""An experiment: jobs, each in a process of its own, run folders, checks and the run itself."""
