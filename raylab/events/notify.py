"""News of a sweep to a webhook: one JSON POST when it ends, is refused, or gives up.

The body has a `text`, which Slack, Mattermost and Teams show, and the same as fields for programs.
The address is often itself the secret: of it, only scheme and host are ever told.
"""

import base64
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from raylab.config.sweep import metric_mode
from raylab.errors import Problem, RaylabError, Refused
from raylab.results.record import Record
from raylab.storage import persistently, without_secrets

TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Webhook:
    """Where news go. Refused where that is no http address."""

    url: str = field(repr=False)

    def __post_init__(self) -> None:
        parts = _split(self.url)
        if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
            text = "is no address of a webhook; give https://host/path"
            raise Refused([Problem("--notify", text)], "the options")

    @property
    def shown(self) -> str:
        """What may be told of it: `https://hooks.example`."""
        parts = _split(self.url)
        assert parts is not None
        return f"{parts.scheme}://{parts.hostname}"

    def post(self, news: dict[str, Any], tell: Callable[[str], object]) -> None:
        """Sends it; a webhook that does not take it is told of, and nothing more."""
        try:
            persistently(lambda: self._post_once(news))
        except (OSError, ValueError, HTTPException) as error:
            reason = getattr(error, "reason", None) or type(error).__name__
            code = f"{error.code} " if hasattr(error, "code") else ""
            tell(f"{self.shown} did not take the news: {code}{reason}")

    def _post_once(self, news: dict[str, Any]) -> None:
        parts = _split(self.url)
        assert parts is not None
        headers = {"Content-Type": "application/json"}
        if parts.username is not None:
            user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            headers["Authorization"] = f"Basic {base64.b64encode(user.encode()).decode()}"
        address = parts._replace(netloc=parts.netloc.rpartition("@")[2])
        body = without_secrets(json.dumps(news, ensure_ascii=False)).encode()
        request = Request(urlunsplit(address), body, headers)
        with build_opener(_StaysThere).open(request, timeout=TIMEOUT_S):
            pass


class _StaysThere(HTTPRedirectHandler):
    """Goes nowhere else: urllib would leave the news behind and take the password along."""

    def redirect_request(
        self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> None:
        text = "it points to another address; give that one"
        raise HTTPError(req.full_url, code, text, headers, fp)


@dataclass
class News:
    """What a webhook is told, as far as it is known."""

    told: dict[str, Any] = field(default_factory=lambda: {"sweep": "sweep", "results": None})

    def concerns(self, sweep: str, results: str) -> None:
        """Which sweep it is."""
        self.told |= {"sweep": sweep, "results": results}

    def ended(self, state: str, details: str = "") -> None:
        """How it ended, in few words, and one line of details."""
        text = f"raylab {self.told['sweep']} {state}{details and ': '}{details}"
        self.told |= {"state": state, "text": text}

    def came_out(
        self, metric: str, records: Iterable[Record], interrupted: bool, advice: str | None
    ) -> None:
        """What a sweep that ran has; `advice` is why it stopped early of its own accord."""
        ended = list(records)
        counts = Counter(record.status for record in ended)
        ranked = [r for r in ended if r.status == "complete" and getattr(r, metric) is not None]
        sign = 1 if metric_mode(metric) == "max" else -1
        best = max(ranked, key=lambda r: sign * getattr(r, metric), default=None)
        parts = [f"{count} {status}" for status, count in counts.items()]
        self.told |= {"counts": dict(counts), "advice": advice, "best": None}
        if best is not None:
            value = getattr(best, metric)
            parts.append(f"best {metric} {value:.4f} (trial {best.trial_id})")
            self.told["best"] = {"trial_id": best.trial_id, metric: value}
        state = "interrupted" if interrupted else "ended"
        if advice:
            state = "keeps failing" if counts.keys() == {"failed"} else "stopped early"
        self.ended(state, ", ".join(parts) or "no trial ran")

    def failed(self, state: str, error: str) -> None:
        """Why it could not begin, or not go on."""
        self.told["error"] = error
        self.ended(state, error.partition("\n")[0])


@contextmanager
def notified(url: str | None, tell: Callable[[str], object]) -> Iterator[News]:
    """Sends to the webhook, if there is one, how what is inside came out.

    Refused at once where the address is none. What the webhook does changes nothing.
    """
    webhook, news = None if url is None else Webhook(url), News()
    try:
        yield news
    except Refused as error:
        news.failed("refused", str(error))
        raise
    except RaylabError as error:
        news.failed("cannot go on", str(error))
        raise
    except BaseException as error:
        news.failed("stopped", type(error).__name__)
        raise
    finally:
        if webhook is not None:
            webhook.post(news.told, tell)


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # refused here, and not with the whole address in its text
    except ValueError:
        return None
    return parts
