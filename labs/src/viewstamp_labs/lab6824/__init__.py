"""6.824-2012 labs 6 and 7: `lock_server`, `lock_tester`, `rsm_tester`, and a tester of tests 0 to 16."""
