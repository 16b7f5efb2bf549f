"""The command-line programs of the courses, over the same library as everything else."""
