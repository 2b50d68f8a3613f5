//! The method table: everything a client may send, by revision. What is not in it is denied.

use super::Revision;
use Revision::{V2025_03_26, V2025_06_18, V2025_11_25, V2026_07_28};

/// Whether a method expects an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Must carry an id.
    Request,
    /// Must not carry an id.
    Notification,
}

/// A method that a client sends to a server.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[expect(missing_docs, reason = "each variant is the method of that name; see the table below")]
pub enum Method {
    Initialize,
    ServerDiscover,
    Ping,
    ToolsList,
    ToolsCall,
    ResourcesList,
    ResourcesTemplatesList,
    ResourcesRead,
    ResourcesSubscribe,
    ResourcesUnsubscribe,
    SubscriptionsListen,
    PromptsList,
    PromptsGet,
    CompletionComplete,
    LoggingSetLevel,
    TasksGet,
    TasksResult,
    TasksList,
    TasksCancel,
    TasksUpdate,
    Initialized,
    Cancelled,
    Progress,
    RootsListChanged,
    TasksStatus,
}

const HANDSHAKE: &[Revision] = &[V2025_03_26, V2025_06_18, V2025_11_25];
const STATELESS: &[Revision] = &[V2026_07_28];

/// Name, kind and revisions of each method: the `ClientRequest` and `ClientNotification` unions of the schemas.
const TABLE: [(Method, &str, Kind, &[Revision]); 25] = [
    (Method::Initialize, "initialize", Kind::Request, HANDSHAKE),
    (Method::ServerDiscover, "server/discover", Kind::Request, STATELESS),
    (Method::Ping, "ping", Kind::Request, HANDSHAKE),
    (Method::ToolsList, "tools/list", Kind::Request, &Revision::ALL),
    (Method::ToolsCall, "tools/call", Kind::Request, &Revision::ALL),
    (Method::ResourcesList, "resources/list", Kind::Request, &Revision::ALL),
    (Method::ResourcesTemplatesList, "resources/templates/list", Kind::Request, &Revision::ALL),
    (Method::ResourcesRead, "resources/read", Kind::Request, &Revision::ALL),
    (Method::ResourcesSubscribe, "resources/subscribe", Kind::Request, HANDSHAKE),
    (Method::ResourcesUnsubscribe, "resources/unsubscribe", Kind::Request, HANDSHAKE),
    (Method::SubscriptionsListen, "subscriptions/listen", Kind::Request, STATELESS),
    (Method::PromptsList, "prompts/list", Kind::Request, &Revision::ALL),
    (Method::PromptsGet, "prompts/get", Kind::Request, &Revision::ALL),
    (Method::CompletionComplete, "completion/complete", Kind::Request, &Revision::ALL),
    (Method::LoggingSetLevel, "logging/setLevel", Kind::Request, HANDSHAKE),
    (Method::TasksGet, "tasks/get", Kind::Request, &[V2025_11_25, V2026_07_28]),
    (Method::TasksResult, "tasks/result", Kind::Request, &[V2025_11_25]),
    (Method::TasksList, "tasks/list", Kind::Request, &[V2025_11_25]),
    (Method::TasksCancel, "tasks/cancel", Kind::Request, &[V2025_11_25, V2026_07_28]),
    (Method::TasksUpdate, "tasks/update", Kind::Request, STATELESS),
    (Method::Initialized, "notifications/initialized", Kind::Notification, HANDSHAKE),
    (Method::Cancelled, "notifications/cancelled", Kind::Notification, HANDSHAKE),
    (Method::Progress, "notifications/progress", Kind::Notification, HANDSHAKE),
    (Method::RootsListChanged, "notifications/roots/list_changed", Kind::Notification, HANDSHAKE),
    (Method::TasksStatus, "notifications/tasks/status", Kind::Notification, &[V2025_11_25]),
];

impl Method {
    /// The method of that name in that revision. Exact: case, blanks and control characters make another name.
    pub fn find(name: &str, revision: Revision) -> Option<(Self, Kind)> {
        TABLE
            .iter()
            .find(|(_, known, _, revisions)| *known == name && revisions.contains(&revision))
            .map(|&(method, _, kind, _)| (method, kind))
    }

    /// Whether the answer is a list of which callers see different parts.
    pub const fn is_list(self) -> bool {
        matches!(
            self,
            Self::ToolsList | Self::ResourcesList | Self::ResourcesTemplatesList | Self::PromptsList | Self::TasksList
        )
    }

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        TABLE.iter().find(|(method, ..)| *method == self).map_or("", |&(_, name, ..)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_exact() {
        assert_eq!(Method::find("tools/call", V2026_07_28), Some((Method::ToolsCall, Kind::Request)));
        for wrong in ["Tools/Call", "tools/call ", "tools/call\0", "tools//call", "", "rpc.discover", "tools"] {
            assert_eq!(Method::find(wrong, V2026_07_28), None, "{wrong:?}");
        }
    }

    #[test]
    fn each_revision_has_its_own_methods() {
        assert_eq!(Method::find("initialize", V2026_07_28), None);
        assert_eq!(Method::find("ping", V2026_07_28), None);
        assert_eq!(Method::find("server/discover", V2025_11_25), None);
        assert_eq!(Method::find("tasks/get", V2025_06_18), None);
        assert_eq!(Method::find("notifications/cancelled", V2026_07_28), None);
    }

    #[test]
    fn every_method_has_its_name() {
        assert!(TABLE.iter().all(|&(method, name, ..)| method.name() == name));
    }
}
