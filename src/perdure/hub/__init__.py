"""The embedded hub: speaks the Hugging Face Hub's protocol from one process and one folder.

`HubServer` runs it, in a thread of any program or for `perdure serve`; `create_app` makes the ASGI application.

```text
server · connections      a socket, a lock on the store, start and stop; how long clients may take, and how many
envelope · app            request ids and the log; the table of addresses, errors as the clients expect them
endpoints · turns         admitting a caller, receiving a body, calling a handler when it is their turn
core      what holds the parts together
manage · people · refs · contents · info · listing · briefs · resolve · commits · lfs · pulls · xet/       the handlers
collaboration    the addresses of git, git-lfs and pull requests
git_http · git_push · git_check · git_wire · git_process    smart HTTP: clones by git itself, pushes checked first
git · repos · tree       one bare git repository for each repo            durable before a branch moves
blobs            large files by their sha256                       durable before they get their name
db · schema · sqlite_file    repositories and settings, in SQLite
accounts · orgs · auth    users, tokens, organisations; who may do what; signed links
session · web/   browsers that are signed in; pages for people
discussions · merging    pull requests; what they change and whether they can be merged
openapi · openapi_shapes    the description of all addresses, made from the table itself
fsck · ref_check · gc · git_gc · history · storelock    looking after a store
paths · limits · attributes · card · weights · http                pure helpers
```
"""

from perdure._optional import require as _require

for _name in ("starlette", "uvicorn", "dulwich", "lz4"):  # so that the lack of one is said the same way everywhere
    _require(_name, "The embedded hub")
