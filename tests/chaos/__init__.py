"""A real agent, a real server, and everything between them that can go wrong, at random and all at once.

`launcher` starts the agent under a clock that jumps and a disk that fills, `network` loses what passes between agent
and server, `inspection` looks at what a killed agent left behind, `campaign` kills one agent again and again and holds
what it sees against the promises, `report` sums up. `benchmarks/chaos.py` runs it long, `test_chaos.py` short.
"""
