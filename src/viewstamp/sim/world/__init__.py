"""The simulated world: time, network, disks, processes, and the cluster in it."""
