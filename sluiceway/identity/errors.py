"""What can go wrong when someone says who they are."""

from sluiceway.kit.errors import Conflict, Forbidden, InvalidInput, TooManyRequests, Unauthenticated


class InvalidKey(Unauthenticated):
    """The key is unknown, revoked, or its secret is wrong: which of them is not told."""

    code = "invalid_key"
    title = "The API key is not valid"


class ExpiredKey(Unauthenticated):
    code = "expired_key"
    title = "The API key has expired"


class MissingScope(Forbidden):
    code = "missing_scope"
    title = "The API key may not do this"


class NotSignedIn(Unauthenticated):
    code = "not_signed_in"
    title = "Nobody is signed in"


class WrongCredentials(Unauthenticated):
    code = "wrong_credentials"
    title = "The e-mail address or the password is wrong"


class NotPermitted(Forbidden):
    code = "not_permitted"


class SignInThrottled(TooManyRequests):
    code = "sign_in_throttled"
    title = "Too many attempts to sign in"


class EmailTaken(Conflict):
    code = "email_taken"
    title = "Someone has this e-mail address already"


class InvalidPerson(InvalidInput):
    code = "invalid_person"


class InvalidKeyRequest(InvalidInput):
    code = "invalid_key_request"


class KeyNotActive(Conflict):
    code = "key_not_active"
    title = "The API key no longer works"


class RotationRunning(Conflict):
    code = "rotation_running"
    title = "The key was rotated a short while ago"


class InvalidServiceAccount(InvalidInput):
    code = "invalid_service_account"
    title = "The service account is not valid"


class ServiceAccountExists(Conflict):
    code = "service_account_exists"
    title = "Another service account has this name"
