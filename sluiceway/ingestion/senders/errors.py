"""Why a sender is not believed. All are 401; none tells which secret was tried or how near a guess was."""

from sluiceway.kit.errors import Unauthenticated


class SignatureMissing(Unauthenticated):
    code = "signature_missing"
    title = "The delivery is not signed"


class SignatureMalformed(Unauthenticated):
    """Cut short, too long, wrongly encoded, sent twice."""

    code = "signature_malformed"
    title = "The signature cannot be read"


class SignatureInvalid(Unauthenticated):
    """Made with another secret or for other bytes."""

    code = "signature_invalid"
    title = "The signature does not fit"


class SignatureStale(Unauthenticated):
    """Signed too long ago, or in the future: perhaps a recorded delivery."""

    code = "signature_stale"
    title = "The signature's time is too far from now"


class CredentialsMissing(Unauthenticated):
    code = "credentials_missing"
    title = "No credentials were sent"


class CredentialsInvalid(Unauthenticated):
    code = "credentials_invalid"
    title = "The credentials are wrong"


class SenderSecretMissing(Unauthenticated):
    """The pipeline has a scheme, but no secret that is valid now."""

    code = "sender_secret_missing"
    title = "No secret is set for this sender"


class ChallengeRefused(Unauthenticated):
    code = "challenge_refused"
    title = "The challenge is not answered"
