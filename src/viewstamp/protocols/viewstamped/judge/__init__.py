"""What checks viewstamped from outside: the oracle and its rule of liveness. Skip it on a first reading."""
