# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is in force on this host, a netmap and preferences, and what is there only on trial.

A change is proposed, then adopted: for good, which writes it down first, or as a trial, which writes nothing. A trial
that is confirmed is written down; one that is not, in time, gives way to what was before. So whatever ends the agent
during a trial, it comes back with what was before. The clock is the caller's.
"""

from __future__ import annotations

import dataclasses
import hashlib
import secrets
import time
from typing import Any, Optional

from .api import ApiError
from .beacon.former import Former, Left, leave, served
from .beacon.messages import Kept
from .config import Config
from .log import logger
from .netmap.admit import admit
from .netmap.model import Netmap
from .netmap.signing import MAX_SIGNED_BYTES
from .netmap.view import View, derive
from .preferences import DEFAULTS, Preferences, check_exit_node
from .state import FormerStore, NetmapStore, PreferencesStore, StateError

NETMAP = "netmap"
PREFERENCES = "preferences"

TRIAL_RUNNING = "trial-running"
TRIAL_EXPIRED = "trial-expired"
NO_SUCH_TRIAL = "no-such-trial"


@dataclasses.dataclass(frozen=True)
class State:
    """``sha256`` is of the netmap's signed file, in hexadecimal; ``origin`` says in words where it came from. The four
    are None while there is no map.
    """

    preferences: Preferences = DEFAULTS
    netmap: Optional[Netmap] = None
    view: Optional[View] = None
    sha256: Optional[str] = None
    origin: Optional[str] = None

    def of(self, what: str) -> str:
        """In words, for the log."""
        if what == PREFERENCES:
            changed = self.preferences.not_default()
            return "preferences " + (", ".join(f"{key}={value}" for key, value in changed.items()) or "as by default")
        return f"netmap version {self.netmap.version}" if self.netmap else "no netmap"


@dataclasses.dataclass(frozen=True)
class Proposal:
    """A change of ``what``, NETMAP or PREFERENCES: the state that it leads to, and what to write down for it."""

    what: str
    content: bytes
    state: State


@dataclasses.dataclass
class Trial:
    """A proposal in force, until ``ends_at`` on the caller's clock; then ``before`` is."""

    proposal: Proposal
    before: State
    seconds: float
    ends_at: float
    id: str = dataclasses.field(default_factory=lambda: secrets.token_hex(8))


class InForce:
    """The state, and the two files that it comes back from."""

    def __init__(self, config: Config, public_key: bytes) -> None:
        self._config = config
        self._public_key = public_key
        self._netmaps = NetmapStore(config.netmap_path, MAX_SIGNED_BYTES)
        self._preferences = PreferencesStore(config.preferences_path)
        self.state = State()
        self.trial: Optional[Trial] = None
        self.expired: Optional[Trial] = None
        """The last trial, if it was not confirmed."""
        self._confirmed: Optional[str] = None
        self.kept: Optional[Kept] = None
        """The map that is written down, as it is passed on to others."""
        self._left: Left = {}
        self._left_store = FormerStore(config.former_path)
        self._kept_netmap: Optional[Netmap] = None
        self.unsaved: Optional[str] = None
        """Why the map that is kept is not on the disk."""
        self._unsaved = b""

    @property
    def former(self) -> Former:
        """The addresses that this node serves as a beacon though the map has them no more; none of a map on trial."""
        on_trial = self.trial is not None and self.trial.proposal.what == NETMAP
        return Former() if on_trial else served(self._left, self._public_key)

    # --- start

    def load_preferences(self) -> None:
        """Those of the last run. Raises StateError; then the defaults are in force."""
        self._preferences.remove_leftovers()
        self.state = dataclasses.replace(self.state, preferences=self._preferences.load())

    def load_netmap(self) -> None:
        """That of the last run, if there is one. Raises NetmapError, StateError."""
        self._netmaps.remove_leftovers()
        try:
            self._left = self._left_store.load()
        except StateError as error:
            logger.error("nobody is served at former addresses: %s", error)
        signed = self._netmaps.load()
        if signed is None:
            logger.info("no netmap yet; waiting for one")
        else:
            proposal = self.propose_netmap(signed, "this host's disk")
            self.state = proposal.state
            self._keep_to_pass_on(proposal)

    # --- changes

    def propose_netmap(self, signed: bytes, origin: str) -> Proposal:
        """Raises NetmapError for a map that this host must not follow."""
        sha256 = hashlib.sha256(signed).hexdigest()
        if sha256 == self.state.sha256:
            return Proposal(NETMAP, signed, self.state)
        netmap = admit(signed, self._config.signing_key, self._config.network, self.state.netmap)
        view = derive(netmap, self._public_key)
        logger.info("netmap version %d: this is node %s, with %d peers", netmap.version, view.name, len(view.peers))
        state = dataclasses.replace(self.state, netmap=netmap, view=view, sha256=sha256, origin=origin)
        return Proposal(NETMAP, signed, state)

    def propose_preferences(self, values: Any) -> Proposal:
        """``values``: those to change. Raises PreferencesError."""
        preferences = self.state.preferences.changed(values)
        if preferences.exit_node is not None and "exit_node" in values:
            nodes = self.state.netmap.nodes if self.state.netmap else ()
            check_exit_node(preferences.exit_node, nodes, self.state.view.name if self.state.view else "")
        changed = preferences != self.state.preferences
        state = dataclasses.replace(self.state, preferences=preferences) if changed else self.state
        return Proposal(PREFERENCES, preferences.to_json(), state)

    def adopt(self, proposal: Proposal, seconds: Optional[float], now: float, must_save: bool = True) -> bool:
        """Put a proposal into force, for so many seconds if not for good; False when it was already.

        Raises ApiError trial-running, and StateError if it must be saved; then everything is as before.
        """
        trial = self.trial
        if trial and (trial.proposal.what, trial.proposal.content) == (proposal.what, proposal.content):
            if seconds is None:
                self._keep(trial, must_save)
            else:
                trial.seconds, trial.ends_at = seconds, now + seconds
            return True
        if proposal.state is self.state:
            return False
        if trial:
            message = (
                f"{trial.proposal.state.of(trial.proposal.what)} is on trial here, "
                f"for {max(0.0, trial.ends_at - now):.0f} s more; until then nothing else can be changed"
            )
            raise ApiError(TRIAL_RUNNING, message)
        if seconds is None:
            # First the disk, so that no restart falls back behind what peers have already seen of us.
            self._write(proposal, must_save)
        else:
            self.trial = Trial(proposal, self.state, seconds, now + seconds)
            logger.info("%s: on trial for %g s", proposal.state.of(proposal.what), seconds)
        self.state, self.expired = proposal.state, None
        return True

    def confirm(self, identity: Any, must_save: bool = True) -> None:
        """Keep what is on trial; again is no error.

        Raises ApiError no-such-trial, and StateError if it must be saved.
        """
        if self.trial and self.trial.id == identity:
            self._keep(self.trial, must_save)
        elif identity is None or identity != self._confirmed:
            expired = self.expired is not None and self.expired.id == identity
            why = "was not confirmed in time" if expired else "is not known here; a restart of the agent ends a trial"
            raise ApiError(NO_SUCH_TRIAL, f"trial {str(identity)[:60]} {why}")

    def fall_back(self) -> None:
        """End the trial: what was before is in force again."""
        trial = self.trial
        if trial is None:
            return
        self.state, self.trial, self.expired = trial.before, None, trial
        what = trial.proposal.what
        logger.error(
            "%s: not confirmed within %g s; back to %s",
            trial.proposal.state.of(what), trial.seconds, trial.before.of(what),
        )  # fmt: skip

    def save_again(self) -> None:
        """Try to write down what could not be written."""
        if self.unsaved is not None:
            self._save_netmap(self._unsaved, must_save=False)

    def _keep(self, trial: Trial, must_save: bool) -> None:
        self._write(trial.proposal, must_save)
        self.trial, self._confirmed = None, trial.id
        logger.info("%s: confirmed", trial.proposal.state.of(trial.proposal.what))

    def _write(self, proposal: Proposal, must_save: bool) -> None:
        if proposal.what == NETMAP:
            self._save_netmap(proposal.content, must_save)
            self._keep_to_pass_on(proposal)
        else:
            self._preferences.save(proposal.content)

    def _save_netmap(self, signed: bytes, must_save: bool) -> None:
        """One that need not be saved is kept in memory until it can be. After a restart it has to be got anew."""
        try:
            self._netmaps.save(signed)
        except StateError as error:
            if must_save:
                raise
            if self.unsaved is None:
                logger.error("the netmap is kept in memory only: %s", error)
            self.unsaved, self._unsaved = str(error), signed
        else:
            self.unsaved, self._unsaved = None, b""

    def _keep_to_pass_on(self, proposal: Proposal) -> None:
        netmap = proposal.state.netmap
        self.kept = Kept.of(proposal.content, netmap.version) if netmap else None
        if netmap:
            self._leave(netmap, proposal.state.view)

    def _leave(self, netmap: Netmap, view: Optional[View]) -> None:
        """Remember the addresses that this map takes from nodes, if this one is a beacon."""
        before, self._kept_netmap = self._kept_netmap, netmap
        left = leave(self._left, before, netmap, time.time()) if view and view.beacon is not None else {}
        if left == self._left:
            return
        self._left = left
        try:
            self._left_store.keep(left)
        except StateError as error:
            logger.error("after a restart nobody will be served at former addresses: %s", error)
