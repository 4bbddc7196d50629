# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A netmap at an HTTP(S) URL: an object store knows nothing of the mesh, and need not be trusted, as the map is signed.

It is asked every few minutes whether there is another one (RFC 9110, section 13.1.2), in a short-lived process: the
libraries that it takes are larger than all else in the agent.
"""

from __future__ import annotations

import asyncio
import base64
import random
import time
from collections.abc import Awaitable
from typing import Any, Callable, Optional

from ..log import logger
from ..netmap.model import NetmapError
from ..netmap.signing import MAX_SIGNED_BYTES
from ..processes import child
from ..tasks import begin

# Seconds. Between two looks; after failures it gets longer, up to the last.
INTERVAL = 300.0
LAST_INTERVAL = 3600.0
# For the server to say anything, and for the whole of it.
ANSWER_TIMEOUT = 20.0
TIMEOUT = 120.0
MAX_REDIRECTS = 5


class FetchError(OSError):
    """There is no map to be had at the URL; the message says why."""


def fetch(url: str, etag: Optional[str]) -> dict[str, Optional[str]]:
    """``netmap``: the signed file in base64, None if it is the one of ``etag``; and its own ``etag``, if it has any.

    Blocks, and imports much: for a child process. Raises OSError, FetchError among them.
    """
    import http.client  # noqa: PLC0415
    import urllib.error  # noqa: PLC0415
    import urllib.request  # noqa: PLC0415
    from urllib.parse import urlsplit  # noqa: PLC0415

    class Redirects(urllib.request.HTTPRedirectHandler):
        max_redirections = MAX_REDIRECTS

        def redirect_request(self, req: Any, *answer: Any) -> Any:
            before, after = urlsplit(req.full_url).scheme, urlsplit(answer[-1]).scheme
            if after not in ("https", before):
                raise FetchError(f"it redirects from {before} to {after or 'nowhere'}")
            return super().redirect_request(req, *answer)

    headers = {"User-Agent": "sennit", **({"If-None-Match": etag} if etag else {})}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 (the configuration admits http and https)
    try:
        with urllib.request.build_opener(Redirects).open(request, timeout=ANSWER_TIMEOUT) as response:
            signed = response.read(MAX_SIGNED_BYTES + 1)
            missing = response.length
            new_etag = response.headers.get("ETag")
    except urllib.error.HTTPError as error:
        if error.code == 304:
            return {"netmap": None, "etag": etag}
        raise FetchError(f"HTTP status {error.code}") from error
    except urllib.error.URLError as error:
        raise FetchError(str(getattr(error.reason, "strerror", None) or error.reason)) from error
    except (http.client.HTTPException, ValueError) as error:
        raise FetchError(f"no answer by HTTP ({type(error).__name__})") from error
    if len(signed) > MAX_SIGNED_BYTES:
        raise FetchError(f"more than {MAX_SIGNED_BYTES} bytes")
    if missing:
        raise FetchError(f"it was cut short, by {missing} bytes")
    return {"netmap": base64.b64encode(signed).decode(), "etag": new_etag}


class Poll:
    """Looks at the URL from time to time until close(). ``take``: given a signed map; raises NetmapError, OSError."""

    def __init__(self, url: str, take: Callable[[bytes], Awaitable[None]], interval: float = INTERVAL) -> None:
        self._url = url
        self._take = take
        self._interval = interval
        self._etag: Optional[str] = None
        self._looked_at: Optional[float] = None
        self._problem: Optional[str] = None
        self._life = begin("looking at the netmap's URL", self._live())

    def status(self) -> dict[str, Any]:
        """The URL without its query, when it was last looked at (seconds since the epoch, or None), and the problem."""
        return {"url": self._url.partition("?")[0], "looked_at": self._looked_at, "problem": self._problem}

    async def close(self) -> None:
        self._life.cancel()
        await asyncio.gather(self._life, return_exceptions=True)

    async def _live(self) -> None:
        interval = self._interval
        while True:
            problem = await self._look()
            if problem not in (None, self._problem):
                logger.warning("%s: %s", self.status()["url"], problem)
            self._problem = problem
            interval = self._interval if problem is None else min(2 * interval, LAST_INTERVAL)
            await asyncio.sleep(interval * random.uniform(0.7, 1.3))  # noqa: S311 (to be spread, not to be secret)

    async def _look(self) -> Optional[str]:
        try:
            found = await child.run(fetch, self._url, self._etag, timeout=TIMEOUT)
            self._looked_at = time.time()
            if found["netmap"] is not None:
                await self._take(base64.b64decode(found["netmap"]))
        except child.ChildError as error:
            return str(error).partition("FetchError: ")[2] or str(error)
        except NetmapError as error:
            # The same file again would be no better.
            self._etag = found["etag"]
            return f"refused what is there ({error.reason}): {error}"
        except OSError as error:
            return str(error)
        self._etag = found["etag"]
        return None
