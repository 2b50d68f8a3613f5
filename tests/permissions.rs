//! Lists, calls and the told permissions agree, and all of them with a model of the decision by sides that is written
//! down a second time here, in sets of names.
#![cfg(not(target_family = "wasm"))]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]
#![expect(clippy::arithmetic_side_effects, reason = "the numbers are in the test")]

mod support {
    #[expect(dead_code, reason = "permissions need a part of it")]
    pub(crate) mod gateway;
    #[expect(dead_code, reason = "permissions need a part of it")]
    pub(crate) mod issuer;
    pub(crate) mod keys;
}

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use toolgate::config::CompiledPolicy;
use toolgate::identity::{Peer, Principal, Revoked};
use toolgate::jwt::{KeyRing, PureRust, VerifiedToken};
use toolgate::mcp::{Call, CallContext, ClientCapabilities, Method, Retry, Revision, Target};
use toolgate::policy::{AccessRequest, Decision, Denial, Effort, Subject, decide, permissions, prospect, visibility};
use toolgate::units::UnixSeconds;

use support::gateway::{ISSUER, Keys, compile, policy, token_with};
use support::issuer::NOW;

const SCOPES: [&str; 5] = ["a", "b", "c", "d", "e"];
const TENANTS: [&str; 2] = ["acme", "beta"];
const CLIENTS: [&str; 3] = ["app-0", "app-1", "app-2"];
const AGENTS: [&str; 2] = ["agent-0", "agent-1"];
const TOOLS: [&str; 5] = ["t0", "t1", "t2", "t3", "unnamed"];
/// Tools that need one scope each and nothing else: which of them a caller may call is its effective permission.
const PROBES: [&str; 5] = ["probe-a", "probe-b", "probe-c", "probe-d", "probe-e"];
/// All that the arguments of a call can mean to the rules below.
const ARGUMENTS: [&str; 7] = [
    "{}",
    r#"{"x":1}"#,
    r#"{"tenant":"acme"}"#,
    r#"{"tenant":"acme","x":1}"#,
    r#"{"tenant":"beta"}"#,
    r#"{"tenant":"beta","x":1}"#,
    r#"{"tenant":1,"x":1}"#,
];

type Names = BTreeSet<&'static str>;

// --- Policies and tokens ----------------------------------------------------------------------------------------------

#[derive(Clone, Debug)]
struct Role {
    roles: Names,
    groups: Names,
    scopes: Names,
    except: Names,
}

#[derive(Clone, Debug)]
struct Agent {
    scopes: Names,
    except: Names,
    approval: Names,
}

#[derive(Clone, Debug)]
struct Consent {
    is_over: bool,
    scopes: Option<Names>,
    tools: Option<Names>,
    /// Pinned tools, and whether each was seen as pinned, seen otherwise, or not seen.
    pinned: BTreeMap<&'static str, Option<bool>>,
}

#[derive(Clone, Debug)]
struct Client {
    agent: Option<usize>,
    scopes: Option<Names>,
    tools: Option<Names>,
    may_act_alone: bool,
    consent: Option<Consent>,
}

#[derive(Clone, Debug)]
struct Rule {
    scopes: Names,
    has_tenant_argument: bool,
    step_up: bool,
    approval: bool,
    is_for_short_tokens: bool,
    when: Option<When>,
}

#[derive(Clone, Copy, Debug)]
enum When {
    Argument,
    NotArgument,
    Subject,
}

#[derive(Clone, Debug)]
struct Policy {
    /// For each scope, which of those before it it implies.
    implies: [Names; 5],
    operators: Option<Vec<Role>>,
    agents: Option<Vec<Agent>>,
    clients: Option<Vec<Client>>,
    /// For each tool but the last: the shared rule, and that of each tenant.
    rules: Vec<(Option<Rule>, [Option<Rule>; 2])>,
    revoked: Names,
}

#[derive(Clone, Debug)]
struct Bearer {
    subject: &'static str,
    client: Option<&'static str>,
    scopes: Names,
    roles: Names,
    groups: Names,
    agent: Option<&'static str>,
    tenant: Option<&'static str>,
    has_acr: bool,
    is_short: bool,
}

fn scopes() -> impl Strategy<Value = Names> {
    // Mostly many: otherwise nothing is ever allowed.
    prop_oneof![1 => btree_set(select(&SCOPES[..]), 0..3), 3 => btree_set(select(&SCOPES[..]), 3..=5)]
}

fn few(names: &'static [&'static str]) -> impl Strategy<Value = Names> {
    btree_set(select(names), 0..2)
}

fn tools() -> impl Strategy<Value = Names> {
    let all: Names = TOOLS.into_iter().chain(PROBES).collect();
    let count = all.len();
    prop_oneof![Just(all.clone()), btree_set(select(Vec::from_iter(all)), 0..=count)]
}

fn rare() -> impl Strategy<Value = bool> {
    prop::bool::weighted(0.2)
}

prop_compose! {
    fn role()(
        roles in btree_set(select(&["r0", "r1"][..]), 1..3), groups in few(&["g0"]), scopes in scopes(), except in few(&SCOPES),
    ) -> Role {
        Role { roles, groups, scopes, except }
    }
}

prop_compose! {
    fn agent()(scopes in scopes(), except in few(&SCOPES), approval in few(&SCOPES)) -> Agent {
        Agent { scopes, except, approval }
    }
}

prop_compose! {
    fn consent()(
        is_over in prop::bool::weighted(0.1),
        scopes in option::of(scopes()),
        tools in option::of(tools()),
        pinned in prop::collection::btree_map(select(&["t0", "t1", "probe-a"][..]), option::of(any::<bool>()), 0..2),
    ) -> Consent {
        Consent { is_over, scopes, tools, pinned }
    }
}

prop_compose! {
    fn client(has_agents: bool)(
        agent in option::of(0..AGENTS.len()),
        scopes in option::of(scopes()),
        tools in option::of(tools()),
        may_act_alone in any::<bool>(),
        consent in option::of(consent()),
    ) -> Client {
        Client { agent: agent.filter(|_| has_agents), scopes, tools, may_act_alone, consent }
    }
}

prop_compose! {
    fn rule()(
        scopes in btree_set(select(&SCOPES[..]), 0..3),
        has_tenant_argument in rare(),
        step_up in rare(),
        approval in rare(),
        is_for_short_tokens in rare(),
        when in option::weighted(0.3, select(&[When::Argument, When::NotArgument, When::Subject][..])),
    ) -> Rule {
        Rule { scopes, has_tenant_argument, step_up, approval, is_for_short_tokens, when }
    }
}

prop_compose! {
    fn implications()(choices in vec(any::<u8>(), 5)) -> [Names; 5] {
        std::array::from_fn(|place| {
            let before = SCOPES.iter().enumerate().take(place);
            before.filter(|(bit, _)| choices[place] & choices[place].rotate_left(3) & (1 << bit) != 0).map(|(_, s)| *s).collect()
        })
    }
}

fn policies() -> impl Strategy<Value = Policy> {
    option::weighted(0.7, vec(agent(), AGENTS.len())).prop_flat_map(|agents| {
        let has_agents = agents.is_some();
        (
            implications(),
            option::weighted(0.7, vec(role(), 1..4)),
            option::weighted(0.7, vec(client(has_agents), 2)),
            vec((option::weighted(0.8, rule()), [option::weighted(0.2, rule()), option::weighted(0.2, rule())]), 4),
            btree_set(select(&["eve", "app-1", "agent-1"][..]), 0..2),
        )
            .prop_map(move |(implies, operators, clients, rules, mut revoked)| {
                if !has_agents {
                    revoked.remove("agent-1");
                }
                Policy { implies, operators, agents: agents.clone(), clients, rules, revoked }
            })
    })
}

fn bearers() -> impl Strategy<Value = Bearer> {
    let persons = (
        prop_oneof![8 => Just("ann"), 1 => Just("eve"), 2 => Just("app-0")],
        option::weighted(0.95, select(&CLIENTS[..])),
        scopes(),
        btree_set(select(&["r0", "r1"][..]), 0..3),
        few(&["g0"]),
    );
    let rest = (
        option::weighted(0.4, prop_oneof![9 => select(&AGENTS[..]), 1 => Just("agent-9")]),
        option::of(select(&TENANTS[..])),
        any::<bool>(),
        any::<bool>(),
    );
    (persons, rest).prop_map(|((subject, client, scopes, roles, groups), (agent, tenant, has_acr, is_short))| Bearer {
        subject,
        client,
        scopes,
        roles,
        groups,
        agent,
        tenant,
        has_acr,
        is_short,
    })
}

// --- As documents -----------------------------------------------------------------------------------------------------

impl Policy {
    fn document(&self) -> Value {
        let mut document = policy();
        document["authentication"]["jwt"][0]["claims"] = json!({"agent": ["agent_role"]});
        document["scopes"] = SCOPES
            .iter()
            .zip(&self.implies)
            .map(|(name, implies)| ((*name).to_owned(), json!({"risk": "low", "implies": implies})))
            .collect();
        if let Some(operators) = &self.operators {
            let operator = |(place, role): (usize, &Role)| {
                let Role { roles, groups, scopes, except } = role;
                let document = json!({"match": {"roles": roles, "groups": groups}, "scopes": scopes, "except": except});
                (format!("operator-{place}"), document)
            };
            document["operators"] = operators.iter().enumerate().map(operator).collect();
        }
        if let Some(agents) = &self.agents {
            let agent = |(name, agent): (&&str, &Agent)| {
                let mut document = json!({"scopes": agent.scopes, "except": agent.except});
                if !agent.approval.is_empty() {
                    document["approval"] = json!({"scopes": agent.approval});
                }
                ((*name).to_owned(), document)
            };
            document["agents"] = AGENTS.iter().zip(agents).map(agent).collect();
        }
        if let Some(clients) = &self.clients {
            let client = |(name, client): (&&str, &Client)| ((*name).to_owned(), client.document());
            document["clients"] = CLIENTS.iter().zip(clients).map(client).collect();
        }
        let rules = self.rules.iter().zip(TOOLS).flat_map(|((shared, own), tool)| {
            let own = own.iter().zip(TENANTS).map(|(rule, tenant)| (rule, Some(tenant)));
            let all = std::iter::once((shared, None)).chain(own);
            all.filter_map(move |(rule, tenant)| Some(rule.as_ref()?.document(tool, tenant)))
        });
        let probes = PROBES.iter().zip(SCOPES).map(|(tool, scope)| json!({"tools": [tool], "scopes": [scope]}));
        document["rules"] = rules.chain(probes).collect();
        let named = |name: &str| self.revoked.get(name).into_iter().collect::<Vec<_>>();
        document["revocation"] = json!({
            "subjects": named("eve").iter().map(|name| json!({"subject": name, "issuer": ISSUER})).collect::<Vec<_>>(),
            "clients": named("app-1"), "agents": named("agent-1"),
        });
        document
    }
}

impl Client {
    fn document(&self) -> Value {
        let mut document = json!({"without_person": if self.may_act_alone { "allow" } else { "deny" }});
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                document[name] = value;
            }
        };
        put("agent", self.agent.map(|place| AGENTS[place].into()));
        put("scopes", self.scopes.as_ref().map(|scopes| json!(scopes)));
        put("tools", self.tools.as_ref().map(|tools| json!(tools)));
        put(
            "consent",
            self.consent.as_ref().map(|Consent { is_over, scopes, tools, pinned }| {
                let mut consent = json!({"by": "somebody", "on": "2020-01-01"});
                if *is_over {
                    consent["expires"] = json!("2020-01-01");
                }
                if let Some(scopes) = scopes {
                    consent["scopes"] = json!(scopes);
                }
                if let Some(tools) = tools {
                    consent["tools"] = json!(tools);
                }
                consent["definitions"] =
                    pinned.keys().map(|tool| ((*tool).to_owned(), json!("00".repeat(32)))).collect();
                consent
            }),
        );
        document
    }
}

impl Rule {
    fn document(&self, tool: &str, tenant: Option<&str>) -> Value {
        let mut document = json!({"tools": [tool], "scopes": self.scopes});
        if let Some(tenant) = tenant {
            document["tenants"] = json!([tenant]);
        }
        if self.has_tenant_argument {
            document["tenant_argument"] = json!("/tenant");
        }
        if self.step_up {
            document["authentication"] = json!({"acr": ["mfa"]});
        }
        if self.approval {
            document["approval"] = json!({});
        }
        if self.is_for_short_tokens {
            document["max_token_lifetime"] = json!("5m");
        }
        match self.when {
            None => {}
            Some(When::Argument) => document["when"] = json!("arguments.x == 1"),
            Some(When::NotArgument) => document["deny_when"] = json!("has(arguments.x)"),
            Some(When::Subject) => document["when"] = json!("subject == 'ann'"),
        }
        document
    }
}

impl Bearer {
    fn token(&self) -> String {
        let claims = json!({
            "sub": self.subject, "client_id": self.client, "scope": Vec::from_iter(self.scopes.iter().copied()).join(" "),
            "roles": self.roles, "groups": self.groups, "agent_role": self.agent, "tenant_id": self.tenant,
            "acr": self.has_acr.then_some("mfa"), "lifetime_s": if self.is_short { 200 } else { 600 },
        });
        token_with(claims.as_object().unwrap())
    }
}

// --- The model --------------------------------------------------------------------------------------------------------

/// What becomes of a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fate {
    Permitted,
    /// Something must be done first.
    Open,
    Denied,
}

impl Policy {
    fn with_implied(&self, names: &Names) -> Names {
        let mut all = names.clone();
        loop {
            let more: Names = SCOPES
                .iter()
                .zip(&self.implies)
                .filter(|(name, _)| all.contains(**name))
                .flat_map(|(_, implied)| implied.iter().copied())
                .collect();
            if more.is_subset(&all) {
                return all;
            }
            all.extend(more);
        }
    }

    /// What a role has: all that its scopes imply, then without the exceptions.
    fn of_role(&self, scopes: &Names, except: &Names) -> Names {
        &self.with_implied(scopes) - except
    }

    fn registration(&self, bearer: &Bearer) -> Option<&Client> {
        let place = CLIENTS.iter().position(|name| Some(*name) == bearer.client)?;
        self.clients.as_ref()?.get(place)
    }

    fn agent_place(&self, bearer: &Bearer) -> Option<usize> {
        let claimed = bearer.agent.map(|name| AGENTS.iter().position(|known| *known == name));
        match (self.registration(bearer).and_then(|client| client.agent), claimed) {
            (_, Some(None)) => None,
            (Some(bound), Some(Some(claimed))) => (bound == claimed).then_some(bound),
            (bound, claimed) => bound.or(claimed.flatten()),
        }
    }

    /// The intersection of all sides; nothing at all when one of them does not know the caller or was cut off.
    fn effective(&self, bearer: &Bearer) -> Option<Names> {
        let mut scopes = self.with_implied(&bearer.scopes);
        let registration = self.registration(bearer);
        if self.clients.is_some() && registration.is_none() {
            return None;
        }
        if bearer.client == Some(bearer.subject) {
            let may_act_alone = registration.map_or(self.operators.is_none(), |client| client.may_act_alone);
            if !may_act_alone {
                return None;
            }
        } else if let Some(operators) = &self.operators {
            let mut own = operators
                .iter()
                .filter(|role| !role.roles.is_disjoint(&bearer.roles) || !role.groups.is_disjoint(&bearer.groups))
                .peekable();
            own.peek()?;
            scopes = &scopes & &own.flat_map(|role| self.of_role(&role.scopes, &role.except)).collect();
        }
        if let Some(agents) = &self.agents {
            let place = self.agent_place(bearer)?;
            scopes = &scopes & &self.of_role(&agents[place].scopes, &agents[place].except);
            if self.revoked.contains(AGENTS[place]) {
                return None;
            }
        }
        if let Some(client) = registration {
            let consent = client.consent.as_ref();
            if consent.is_some_and(|consent| consent.is_over) {
                return None;
            }
            for limit in client.scopes.iter().chain(consent.and_then(|consent| consent.scopes.as_ref())) {
                scopes = &scopes & &self.with_implied(limit);
            }
        }
        let names = [Some(bearer.subject), bearer.client];
        let is_revoked = (bearer.subject == "eve" && self.revoked.contains("eve"))
            || names[1].is_some_and(|client| client == "app-1" && self.revoked.contains("app-1"));
        (!is_revoked).then_some(scopes)
    }

    fn may_use_tool(&self, bearer: &Bearer, tool: &str) -> bool {
        let Some(client) = self.registration(bearer) else { return true };
        let is_in = |tools: &Option<Names>| tools.as_ref().is_none_or(|tools| tools.contains(tool));
        let consent = client.consent.as_ref();
        let was_seen = consent.and_then(|consent| consent.pinned.get(tool)).is_none_or(|seen| *seen == Some(true));
        is_in(&client.tools) && consent.is_none_or(|consent| is_in(&consent.tools)) && was_seen
    }

    fn rule(&self, bearer: &Bearer, tool: &str) -> Option<Rule> {
        if let Some(place) = PROBES.iter().position(|probe| *probe == tool) {
            let scopes = Names::from([SCOPES[place]]);
            let (has_tenant_argument, step_up, approval, is_for_short_tokens, when) =
                (false, false, false, false, None);
            return Some(Rule { scopes, has_tenant_argument, step_up, approval, is_for_short_tokens, when });
        }
        let (shared, own) = self.rules.get(TOOLS.iter().position(|name| *name == tool)?)?;
        let place = TENANTS.iter().position(|tenant| Some(*tenant) == bearer.tenant);
        place.and_then(|place| own[place].clone()).or_else(|| shared.clone())
    }

    fn fate(&self, bearer: &Bearer, tool: &str, arguments: &Value) -> Fate {
        let (Some(rule), Some(effective)) = (self.rule(bearer, tool), self.effective(bearer)) else {
            return Fate::Denied;
        };
        let names_tenant = bearer.tenant.is_some_and(|tenant| arguments["tenant"] == tenant);
        let holds = match rule.when {
            None => true,
            Some(When::Argument) => arguments["x"] == 1,
            Some(When::NotArgument) => arguments["x"].is_null(),
            Some(When::Subject) => bearer.subject == "ann",
        };
        let is_allowed = rule.scopes.is_subset(&effective)
            && self.may_use_tool(bearer, tool)
            && (!rule.has_tenant_argument || names_tenant)
            && holds
            && (!rule.is_for_short_tokens || bearer.is_short);
        let gate = self.agents.as_ref().zip(self.agent_place(bearer)).map(|(agents, place)| &agents[place].approval);
        let is_gated = gate.is_some_and(|gate| !gate.is_disjoint(&rule.scopes));
        match is_allowed {
            false => Fate::Denied,
            true if (rule.step_up && !bearer.has_acr) || rule.approval || is_gated => Fate::Open,
            true => Fate::Permitted,
        }
    }
}

// --- What the library says --------------------------------------------------------------------------------------------

/// A caller under a compiled policy.
struct Asked {
    policy: CompiledPolicy,
    principal: Principal,
    definitions: toolgate::identity::Definitions,
}

impl Asked {
    fn new(model: &Policy, token: &str) -> Self {
        Self::of(model.document(), token)
    }

    fn of(document: Value, token: &str) -> Self {
        let policy = compile(document, Keys::Inline);
        let keys = KeyRing::new(policy.key_sources.iter().map(|(source, _)| source.clone()));
        let token: VerifiedToken =
            toolgate::jwt::verify(token, &policy.issuers, &keys, &PureRust, UnixSeconds::new(NOW)).unwrap();
        let principal = Principal::new(token, &policy.directory, &policy.rules.scopes);
        Self { definitions: policy.directory.pinned_definitions(), policy, principal }
    }

    /// The same after the upstream has listed its tools.
    fn having_seen(mut self, consent: Option<&Consent>) -> Self {
        for (tool, seen) in consent.into_iter().flat_map(|consent| &consent.pinned) {
            if let Some(is_as_pinned) = seen {
                self.definitions.note(tool, if *is_as_pinned { [0; 32] } else { [1; 32] });
            }
        }
        self
    }

    fn with<T>(&self, ask: impl FnOnce(Subject<'_>) -> T) -> T {
        let peer = Peer::default();
        let (principal, definitions) = (&self.principal, &self.definitions);
        ask(Subject { principal, peer: &peer, revoked: Revoked::NoList, definitions, now: UnixSeconds::new(NOW) })
    }

    fn fate(&self, tool: &str, arguments: &str) -> Fate {
        let (method, target) = (Some(Method::ToolsCall), Target::Tool(tool.into()));
        let calls = [Call {
            revision: Revision::V2025_11_25,
            method,
            target,
            id: None,
            capabilities: ClientCapabilities::default(),
            context: CallContext::default(),
            retry: Retry::default(),
            arguments: Some(arguments),
        }];
        self.with(|subject| {
            let request = AccessRequest { subject, calls: &calls };
            match decide(&self.policy.rules, &self.policy.directory, request) {
                Decision::Permit(_) => Fate::Permitted,
                Decision::Oblige(_)
                | Decision::Deny {
                    denial: Denial::InsufficientAuthentication(_) | Denial::ApprovalUnavailable, ..
                } => Fate::Open,
                Decision::Deny { .. } => Fate::Denied,
            }
        })
    }

    fn is_visible(&self, tool: &str) -> bool {
        let (rules, directory) = (&self.policy.rules, &self.policy.directory);
        self.with(|subject| {
            let target = Target::Tool(tool.into());
            let duties = visibility(rules, directory, subject, &Effort::default(), &target);
            // Without the reason it is the same.
            assert_eq!(duties, prospect(rules, directory, subject, &Effort::default(), &target).ok());
            duties.is_some()
        })
    }
}

fn all_tools() -> impl Iterator<Item = &'static str> {
    TOOLS.into_iter().chain(PROBES)
}

/// Every call, and what becomes of it.
fn fates(asked: &Asked) -> BTreeMap<(&'static str, &'static str), Fate> {
    let calls = all_tools().flat_map(|tool| ARGUMENTS.into_iter().map(move |arguments| (tool, arguments)));
    calls.map(|(tool, arguments)| ((tool, arguments), asked.fate(tool, arguments))).collect()
}

/// What was listed by name, each once.
fn told(list: &[Value], member: &str) -> BTreeSet<String> {
    let names: BTreeSet<String> = list.iter().map(|entry| entry[member].as_str().unwrap().to_owned()).collect();
    assert_eq!(names.len(), list.len(), "something is told twice: {list:?}");
    names
}

// --- Properties -------------------------------------------------------------------------------------------------------

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn lists_calls_and_told_permissions_agree_with_the_model(model in policies(), bearer in bearers()) {
        let consent = model.registration(&bearer).and_then(|client| client.consent.as_ref());
        let asked = Asked::new(&model, &bearer.token()).having_seen(consent);
        let fates = fates(&asked);
        for ((tool, arguments), fate) in &fates {
            let parsed: Value = serde_json::from_str(arguments).unwrap();
            prop_assert_eq!(*fate, model.fate(&bearer, tool, &parsed), "{} {}", tool, arguments);
        }
        for tool in all_tools() {
            let could_be_allowed = ARGUMENTS.iter().any(|arguments| fates[&(tool, *arguments)] != Fate::Denied);
            prop_assert_eq!(asked.is_visible(tool), could_be_allowed, "{}", tool);
        }
        let probes = PROBES.iter().zip(SCOPES).filter(|(probe, _)| model.may_use_tool(&bearer, probe));
        let effective: Names = probes.clone().filter(|(probe, _)| asked.is_visible(probe)).map(|(_, scope)| scope).collect();
        let within = |names: Names| probes.map(|(_, scope)| scope).filter(|scope| names.contains(scope)).collect::<Names>();
        prop_assert_eq!(effective, model.effective(&bearer).map(within).unwrap_or_default());

        let (rules, directory) = (&asked.policy.rules, &asked.policy.directory);
        let open = asked.with(|subject| permissions(rules, directory, subject, true));
        let named: BTreeSet<String> =
            all_tools().filter(|tool| model.rule(&bearer, tool).is_some()).map(str::to_owned).collect();
        let visible: BTreeSet<String> = all_tools().filter(|tool| asked.is_visible(tool)).map(str::to_owned).collect();
        prop_assert_eq!(told(&open.tools, "name"), visible.clone());
        prop_assert_eq!(told(open.unavailable.as_ref().unwrap(), "tool"), &named - &visible);
        prop_assert_eq!(open.objections.is_empty(), model.effective(&bearer).is_some());
        let concealed = asked.with(|subject| permissions(rules, directory, subject, false));
        prop_assert!(concealed.unavailable.is_none());
        prop_assert_eq!(concealed.tools, open.tools);
    }

    #[test]
    fn no_side_loses_a_scope_and_the_caller_gains(
        model in policies(), bearer in bearers(), scope in select(&SCOPES[..]), side in 0..5_usize,
    ) {
        let consent = model.registration(&bearer).and_then(|client| client.consent.as_ref());
        let before = fates(&Asked::new(&model, &bearer.token()).having_seen(consent));
        let (mut less, mut weaker) = (model.clone(), bearer.clone());
        let clients = less.clients.iter_mut().flatten();
        match side {
            0 => { weaker.scopes.remove(scope); }
            1 => less.operators.iter_mut().flatten().for_each(|role| { role.scopes.remove(scope); }),
            2 => less.agents.iter_mut().flatten().for_each(|agent| { agent.scopes.remove(scope); }),
            3 => clients.filter_map(|client| client.scopes.as_mut()).for_each(|scopes| { scopes.remove(scope); }),
            _ => clients.filter_map(|client| client.consent.as_mut()?.scopes.as_mut()).for_each(|scopes| { scopes.remove(scope); }),
        }
        let after = fates(&Asked::new(&less, &weaker.token()).having_seen(consent));
        for (call, fate) in after {
            prop_assert!(fate == Fate::Denied || fate == before[&call], "{:?}: {:?} after {:?}", call, fate, before[&call]);
        }
    }
}

/// Random policies that allow nothing, or everything, would prove nothing.
#[test]
fn the_properties_are_not_empty() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen = BTreeMap::from([("permitted", 0), ("open", 0), ("denied", 0), ("effective", 0)]);
    for _ in 0..300 {
        use proptest::strategy::ValueTree;
        let (model, bearer) = (policies(), bearers()).new_tree(&mut runner).unwrap().current();
        *seen.get_mut("effective").unwrap() += usize::from(model.effective(&bearer).is_some());
        for (tool, arguments) in all_tools().flat_map(|tool| ARGUMENTS.into_iter().map(move |a| (tool, a))) {
            let name = match model.fate(&bearer, tool, &serde_json::from_str(arguments).unwrap()) {
                Fate::Permitted => "permitted",
                Fate::Open => "open",
                Fate::Denied => "denied",
            };
            *seen.get_mut(name).unwrap() += 1;
        }
    }
    assert!(
        seen["effective"] > 60 && seen["permitted"] > 600 && seen["open"] > 100 && seen["denied"] > 600,
        "{seen:?}"
    );
}

/// Requests are refused before, but an answer may come when the list has become too old.
#[test]
fn as_long_as_nobody_can_tell_who_was_cut_off_nothing_is_visible_or_allowed() {
    let mut document = policy();
    document["rules"] = json!([{"tools": ["t0"], "scopes": []}]);
    let asked = Asked::of(document, &token_with(json!({"scope": ""}).as_object().unwrap()));
    let (rules, directory) = (&asked.policy.rules, &asked.policy.directory);
    asked.with(|subject| {
        let unsure = Subject { revoked: Revoked::Unknown, ..subject };
        let target = Target::Tool("t0".into());
        assert!(visibility(rules, directory, subject, &Effort::default(), &target).is_some());
        assert_eq!(visibility(rules, directory, unsure, &Effort::default(), &target), None);
        let request = AccessRequest { subject: unsure, calls: &[] };
        assert!(matches!(decide(rules, directory, request), Decision::Deny { .. }));
        assert_eq!(permissions(rules, directory, unsure, true).tools.len(), 0);
    });
}
