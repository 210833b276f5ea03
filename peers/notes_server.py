"""An MCP server that demands per-user OAuth: PyPI `fastmcp`, with its own RFC 9728 metadata and 401 challenge.

It trusts the authorization server at ISSUER (env): tokens are JWTs (RFC 9068), verified by its JWKS,
for the audience `<origin>/mcp` and the scope `notes:read`. `READY <origin>/mcp` is printed when it listens.
Each tool's answer names the `sub` of the token it was called with, so that a test sees whose token arrived.
"""

import os

from fastmcp import FastMCP
from fastmcp.server.auth import RemoteAuthProvider
from fastmcp.server.auth.providers.jwt import JWTVerifier
from fastmcp.server.dependencies import get_access_token
from mcp.types import ToolAnnotations
from pydantic import AnyHttpUrl

import ready

NOTES = {
    "ada": ["Invoice 1001: 240 EUR, paid", "Call the plumber on Tuesday"],
    "grace": ["Invoice 2002: 99 EUR, open", "Lecture notes on compilers"],
}


def subject() -> str:
    token = get_access_token()
    return token.claims["sub"] if token else "nobody"


def search(query: str) -> dict:
    """Finds the caller's notes that contain the query, in any letter case."""
    found = [note for note in NOTES.get(subject(), []) if query.lower() in note.lower()]
    return {"subject": subject(), "notes": found}


def add(text: str) -> dict:
    """Writes a note of the caller."""
    NOTES.setdefault(subject(), []).append(text)
    return {"subject": subject(), "count": len(NOTES[subject()])}


def main() -> None:
    issuer = os.environ["ISSUER"].rstrip("/")
    listener, origin = ready.bind()
    verifier = JWTVerifier(
        jwks_uri=f"{issuer}/jwks",
        issuer=issuer,
        audience=f"{origin}/mcp",
        required_scopes=["notes:read"],
    )
    server = FastMCP(
        "notes",
        version="1.0.0",
        auth=RemoteAuthProvider(
            token_verifier=verifier,
            authorization_servers=[AnyHttpUrl(issuer)],
            base_url=origin,
            scopes_supported=["notes:read"],
            resource_name="Notes",
        ),
    )
    server.tool(search, annotations=ToolAnnotations(read_only_hint=True))
    server.tool(add, annotations=ToolAnnotations(read_only_hint=False, destructive_hint=False))
    ready.serve(server.http_app(path="/mcp"), listener, f"{origin}/mcp")


if __name__ == "__main__":
    main()
