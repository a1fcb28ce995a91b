"""The literature as experiments: claims with their criteria, and what came out here."""

from ravine.explain.claims.claim import Claim, Criterion, Evidence, Run, claim, claims, lookup_claim, verdict

__all__ = ["Claim", "Criterion", "Evidence", "Run", "claim", "claims", "lookup_claim", "verdict"]
