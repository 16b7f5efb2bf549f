"""What a node says over HTTP, on a port or a socket of its own: health, numbers, state, an operator's verbs.

One small ASGI app (Starlette), served by uvicorn on the loop of the node. Nothing here is needed to run a
node; the libraries are the extra `viewstamp[http]`. Read in this order:

1. `app`: which paths there are, and how another package adds its own;
2. `health`: `/livez` and `/readyz`, and what each may depend on;
3. `metrics`: `/metrics`, made of the plain integers that the node counts in anyway;
4. `admin`: `/status` and the verbs of operators, with what proves that a caller is one;
5. `serving`: the listening socket, and uvicorn without its signal handlers.
"""
