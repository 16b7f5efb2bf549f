"""Real processes on loopback: killed, wiped, starved, lied to. Every wait is on a condition, with a bound."""
