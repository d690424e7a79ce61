"""The pages. A module has LINK, its place in the navigation, and ROUTES.

Its templates are templates/pages/<module>*.html, which extend base.html. Endpoints are plain
functions: Starlette runs them in threads, where calls of AWS may block.
"""

from droplens_console.pages import models, overview, results, review, run, suspects, tries

# In the order of the navigation.
MODULES = (overview, run, results, review, suspects, models, tries)
