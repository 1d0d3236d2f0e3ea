"""What the coordinator computes, in its own process: sums of protected updates and what follows from them.

No key that opens anything and no patient's data is ever here. Public test images may be scored in the clear.
"""

from __future__ import annotations

from pathlib import Path

import torch

from adapters.home import CoordinatorConfig, Home
from adapters.sources.discovery import open_source
from ledger.errors import CodedError
from policies.facts import uses_patients
from policies.inquiry import AnyPlan
from policies.plan import Plan
from policies.protection import is_masked
from privacy.masking import closed_set
from privacy.protected_sum import Report
from tasks.score import exact_auc, patient_scores, score
from tasks.summing import SumTerms, end_of
from tasks.train import networks
from tasks.worker.model_session import ModelSession


class CoordinatorSession(ModelSession):
    def __init__(self, home: Path) -> None:
        torch.set_num_threads(1)
        self._home = Home(home)
        self._config = self._home.read(CoordinatorConfig)

    def check_report(self, plan: AnyPlan, terms: SumTerms, site: str, report: Report) -> str | None:
        """None if the report can be part of the sum, else the code of why not."""
        try:
            end_of(plan, terms).check(site, report)
        except CodedError as error:
            return error.code
        return None

    def accused(self, plan: AnyPlan, terms: SumTerms, shares: dict[str, bytes]) -> tuple[str, ...]:
        """Whose reports contradict the others' (`privacy.masking.closed_set`); nobody's where sums have no masks."""
        return closed_set.accused(terms.context, shares) if is_masked(plan) else ()

    def public_auc(self, plan: Plan, model: bytes) -> float | None:
        """AUC on the public test items, if the coordinator has some of the plan's kind and the plan learns labels."""
        public = self._config.public_test
        if public is None or plan.figure != "AUC" or not uses_patients(plan):
            return None
        if (public.kind == "table") != (plan.data.table is not None):
            return None
        source = open_source(
            public.kind,
            self._home.resolve(public.path),
            site="public-test",
            secret=b"public images need no secret",
            layout=public.table,
        )
        cohort = source.load(plan.data)
        module = networks.loaded(plan.network, plan.data, self._weights(plan, model))
        scores = score(module, cohort.inputs)
        return exact_auc(*patient_scores(scores, cohort.positives(plan.data), cohort.patients))
