"""No model, no network: the prompt file writes the reply itself, from the annotation alone."""

from collections.abc import AsyncIterator, Callable

from pipeline.records import Reply, Request


class Template:
    """Answers a request with its own assistant turn."""

    name = "template"
    model = "template"
    endpoint = ""

    async def open(self, requests: AsyncIterator[Request]) -> AsyncIterator[Reply]:
        """Answer in order."""
        async for request in requests:
            yield Reply(request.key, "ok", request.messages[-1].content, "stop", model=self.model)

    async def close(self) -> None:
        """Nothing to give back."""


def connect(spec: object, concurrency: int, picture: Callable[[str], bytes]) -> Template:
    """Return the backend; it has nothing to set."""
    return Template()
