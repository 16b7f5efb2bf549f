"""State machines that come with the library, and their clients."""
