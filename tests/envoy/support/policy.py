"""The policy that most tests run under."""

from typing import Any

from .issuer import RESOURCE, Issuer

Policy = dict[str, Any]
ORIGIN = "https://app.norg.example"
MAX_REQUEST_BYTES = 262_144


def policy(*issuers: Issuer | dict[str, Any], **changes: Any) -> Policy:
    """A policy that trusts these issuers. Members of `changes` replace those of the same name."""
    documents = [issuer.document() if isinstance(issuer, Issuer) else issuer for issuer in issuers]
    document = {
        "version": "toolgate/v1",
        "resource": {"uri": RESOURCE, "name": "Tools under test"},
        "protocol": {"max_request_bytes": MAX_REQUEST_BYTES, "allowed_origins": [ORIGIN]},
        "authentication": {"jwt": documents},
        "scopes": {
            "contacts:read": {"risk": "low"},
            "reports:read": {"risk": "low"},
            "messages:write": {"risk": "medium"},
            "messages:bulk": {"risk": "high", "implies": ["messages:write"]},
            "messages:admin": {"risk": "high", "implies": ["messages:bulk"]},
            "crm:write": {"risk": "medium"},
            "crm:delete": {"risk": "high", "implies": ["crm:write"]},
        },
        "refused_scopes": ["full_access", "root"],
        "rules": [
            {"tools": ["ping"], "scopes": []},
            {"tools": ["read_contact", "résumé"], "scopes": ["contacts:read"]},
            {"tools": ["send_message"], "scopes": ["messages:write"]},
            {"tools": ["broadcast_message"], "scopes": ["messages:bulk"], "max_token_lifetime": "15m"},
            {"tools": ["report_to_all"], "scopes": ["contacts:read", "messages:write", "reports:read"]},
            {"tools": ["crm_*"], "scopes": ["crm:write"]},
            {"tools": ["crm_delete_*"], "scopes": ["crm:delete"]},
            {"tools": ["crm_delete_everything"], "scopes": ["crm:delete", "messages:admin"]},
            {"resources": ["norg://reports/*"], "scopes": ["reports:read"]},
            {"resources": ["norg://reports/../odd"], "scopes": ["reports:read"]},
            {"resources": ["norg://contacts/{id}", "norg://contacts/42"], "scopes": ["contacts:read"]},
            {"prompts": ["brief_*"], "scopes": ["messages:write"]},
        ],
    }
    return document | changes
