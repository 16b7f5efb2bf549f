"""The real world: sockets, disks, clocks and processes around the sans-I/O cores."""
