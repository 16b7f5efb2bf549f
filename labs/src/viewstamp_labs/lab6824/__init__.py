"""6.824-2012: the programs of labs 6 and 7, a tester of tests 0 to 16, and the file system of labs 2 to 5."""
