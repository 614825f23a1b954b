"""What can go wrong when someone says who they are."""

from sluiceway.kit.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
)


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


class SecondFactorRequired(Unauthenticated):
    """The password was right. `extra` holds the step to go on with and which factors there are."""

    code = "second_factor_required"
    title = "A second factor is needed"


class WrongCode(Unauthenticated):
    code = "wrong_code"
    title = "The code is not right"


class StepExpired(Unauthenticated):
    code = "sign_in_step_expired"
    title = "This took too long, or was done already"


class SecondFactorMissing(Forbidden):
    code = "second_factor_missing"
    title = "This workspace asks for a second factor, and you have none yet"


class ConfirmationRequired(Forbidden):
    code = "confirmation_required"
    title = "Confirm first that it is you"


class PasskeyRefused(Unauthenticated):
    code = "passkey_refused"
    title = "The passkey was not accepted"


class InvalidPasskey(InvalidInput):
    code = "invalid_passkey"
    title = "The passkey cannot be registered"


class InvalidSignInPolicy(InvalidInput):
    code = "invalid_sign_in_policy"


class InvalidProvider(InvalidInput):
    code = "invalid_provider"
    title = "The identity provider cannot be set up like this"


class ProviderExists(Conflict):
    code = "provider_exists"
    title = "Another identity provider has this name"


class ProviderFixed(Conflict):
    code = "provider_fixed"
    title = "This identity provider is set up in the installation's settings"


class ProviderFailed(Unavailable):
    code = "provider_failed"
    title = "The identity provider did not answer as it should"


class ProviderRefused(Unauthenticated):
    code = "provider_refused"
    title = "The identity provider's answer does not let this person in"


class ResetLinkInvalid(NotFound):
    code = "reset_link_invalid"
    title = "The link is not valid any more"


class SeatsExceeded(Conflict):
    """One more member than the workspace's quota of seats allows."""

    code = "seats_exceeded"
    title = "All seats of the workspace are taken"


class InvalidRole(InvalidInput):
    code = "invalid_role"


class RoleExists(Conflict):
    code = "role_exists"
    title = "Another role has this name"


class RoleInUse(Conflict):
    code = "role_in_use"
    title = "Somebody still has this role"


class InvalidTeam(InvalidInput):
    code = "invalid_team"


class TeamExists(Conflict):
    code = "team_exists"
    title = "Another team has this name"


class InvalidMember(InvalidInput):
    code = "invalid_member"


class LastOwner(Conflict):
    code = "last_owner"
    title = "Somebody has to own it"


class InvalidInvitation(InvalidInput):
    code = "invalid_invitation"


class AlreadyMember(Conflict):
    code = "already_member"
    title = "This person is a member already"


class InvitationOpen(Conflict):
    code = "invitation_open"
    title = "This address is invited already"


class InvitationSettled(Conflict):
    code = "invitation_settled"
    title = "The invitation was accepted or taken back"


class InvitationGone(NotFound):
    """Unknown, accepted, taken back or too old: which of them is not told."""

    code = "invitation_gone"
    title = "The invitation is not valid any more"


class InvitedSomeoneElse(Forbidden):
    code = "invited_someone_else"
    title = "The invitation is for another address"


class InvalidWorkspace(InvalidInput):
    code = "invalid_workspace"


class WorkspaceExists(Conflict):
    code = "workspace_exists"
    title = "Another workspace has this name"


class WorkspaceKept(Conflict):
    """The installation's first workspace, or the last one of an organization."""

    code = "workspace_kept"
    title = "This workspace cannot be deleted"


class InvalidLogoutToken(BadRequest):
    """What an identity provider sent to end sessions does not hold."""

    code = "invalid_logout_token"
    title = "The logout token does not hold"


class InvalidPreferences(InvalidInput):
    code = "invalid_preferences"


class PeopleOnly(Forbidden):
    code = "people_only"
    title = "Only a person can do this, not a key"


class BelongsElsewhere(Conflict):
    code = "belongs_elsewhere"
    title = "This person belongs to another organization, too"


class InvitationNeeded(Conflict):
    """Whoever is of another organization joins by themselves: nobody makes them a member unasked."""

    code = "invitation_needed"
    title = "This person has to be invited"


class InvalidProvisioning(InvalidInput):
    code = "invalid_provisioning"
    title = "What the identity provider sent is not valid"


class ProvisionedTwice(Conflict):
    code = "provisioned_twice"
    title = "There is such a user or group already"
