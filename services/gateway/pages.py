"""Pages for people."""
from shared.http.endpoint import Response


def wallboard(): return Response(b"x", content_type="text/html")
def static(name): return Response(b"x")
def docs(): return Response(b"x")
def stream(board, figures, request): return Response(b"x")
