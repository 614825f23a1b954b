"""SQL of the verification. Private to the slice: others ask `service.verify`.

Ids and positions are compared by the server, in temporary tables: it sorts and hashes more than fits into
memory, next to the rows they are compared with.
"""
