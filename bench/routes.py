"""A Flask application with as many routes as a large one has."""

from flask import Flask

ROUTES = 5_000

app = Flask(__name__)
for number in range(ROUTES):
    app.add_url_rule(f"/path/{number}", f"path_{number}", lambda: "hello\n")
