"""Pages for people, made on the server: they work without JavaScript and ask no other server for anything.

```text
routes         the table of their addresses
page           templates, the headers that every page has, error pages, who gets a page and not JSON
sign_in        a token in, a cookie out
home · repo · files · history · compare · talk        the handlers
markdown · diff · metrics · chart · text       pure: cards, differences, numbers of a revision, plots, formatting
```
"""
