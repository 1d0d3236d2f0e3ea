"""What a site says on the ledger about its patients' consent: the versions of its policy, and a root every cadence.

The records stay at the site, and so does every count; what the root hides is in docs/ledger-privacy.md. Who consents
is asked when the cohort is selected (`tasks.select`), not here.
"""

from __future__ import annotations

from policies.events import ConsentPublished, ConsentState
from tasks.site.party import Site
from tasks.step import step
from tasks.worker.site_session import SiteSession


@step
async def publish_consent_policies(site: Site) -> None:
    """Put every version of the site's configuration on the ledger that is not there as it is."""
    for policy in site.config.consent.policies:
        known = site.latest.consent_policies.get((site.name, policy.policy_version))
        if known is None or known.to_json() != policy.to_json():
            await site.say(ConsentPublished.from_value(policy.to_json(), what="consent policy"))


@step
async def publish_consent_state(site: Site) -> None:
    """Publish the present cadence's root, changed or not, unless it is there already."""
    cadence = max(site.now_s, site.latest.log_time_s) // site.federation.consent_cadence_s
    before = site.latest.consent_states.get(site.name)
    if before is None or before.cadence < cadence:
        root = await site.worker.call(SiteSession.consent_root, cadence)
        await site.say(ConsentState(cadence=cadence, root=root))
