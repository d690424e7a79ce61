"""`droplens console`: a web application on 127.0.0.1 for one stack, local or in an AWS account.

app.py puts it together; security.py decides which requests are served; stack.py is the data access
for all pages; pages/ has one module for each page, with its routes.
"""
