"""Tests of viewstamped replication: cores only, over a network and disks that the test controls."""
