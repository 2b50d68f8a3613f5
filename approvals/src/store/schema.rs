//! The tables. One text for both databases, but for what guards the history.

use sqlx::{AnyConnection, Connection, Executor};

use super::{Engine, StoreError};

/// Version of the tables that this service writes.
const VERSION: i64 = 1;

/// The hash before the first entry of a history.
pub(super) const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

const TABLES: &[&str] = &[
    "CREATE TABLE schema_version (id BIGINT PRIMARY KEY CHECK (id = 1), version BIGINT NOT NULL)",
    "INSERT INTO schema_version (id, version) VALUES (1, 1)",
    // Where the history ends, and where what is kept of it begins. Each writer updates this row first, so that writers
    // come one after the other.
    "CREATE TABLE history_head (
        id BIGINT PRIMARY KEY CHECK (id = 1),
        seq BIGINT NOT NULL,
        hash TEXT NOT NULL,
        base_seq BIGINT NOT NULL,
        base_hash TEXT NOT NULL)",
    "CREATE TABLE history (
        seq BIGINT PRIMARY KEY,
        approval_id TEXT NOT NULL,
        at BIGINT NOT NULL,
        entry TEXT NOT NULL,
        hash TEXT NOT NULL)",
    "CREATE INDEX history_by_approval ON history (approval_id, seq)",
    "CREATE TABLE approvals (
        seq BIGINT PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        gateway TEXT NOT NULL,
        audience TEXT NOT NULL,
        binding TEXT NOT NULL,
        requester_issuer TEXT NOT NULL,
        requester_subject TEXT NOT NULL,
        requester_client TEXT NOT NULL,
        target TEXT NOT NULL,
        request TEXT NOT NULL,
        state TEXT NOT NULL,
        created_at BIGINT NOT NULL,
        expires_at BIGINT NOT NULL,
        ended_at BIGINT,
        consumed_at BIGINT,
        escalated BIGINT NOT NULL,
        escalates_at BIGINT,
        step BIGINT NOT NULL,
        nonce TEXT,
        nonce_at BIGINT,
        reported BIGINT NOT NULL)",
    "CREATE INDEX approvals_by_binding ON approvals (audience, binding, seq)",
    "CREATE INDEX approvals_by_state ON approvals (state, expires_at)",
    "CREATE INDEX approvals_by_gateway ON approvals (gateway, state)",
    "CREATE INDEX approvals_by_requester ON approvals (requester_subject, seq)",
    "CREATE INDEX approvals_by_client ON approvals (requester_subject, requester_issuer, requester_client, state, ended_at)",
    "CREATE INDEX approvals_by_target ON approvals (target, seq)",
    "CREATE INDEX approvals_by_escalation ON approvals (escalates_at)",
    "CREATE TABLE approver_roles (
        role TEXT NOT NULL,
        seq BIGINT NOT NULL REFERENCES approvals (seq) ON DELETE CASCADE,
        PRIMARY KEY (role, seq))",
    "CREATE INDEX approver_roles_by_approval ON approver_roles (seq)",
    "CREATE TABLE votes (
        seq BIGINT NOT NULL REFERENCES approvals (seq) ON DELETE CASCADE,
        issuer TEXT NOT NULL,
        subject TEXT NOT NULL,
        name TEXT,
        choice TEXT NOT NULL,
        reason TEXT,
        roles TEXT NOT NULL,
        requirements TEXT NOT NULL,
        at BIGINT NOT NULL,
        number BIGINT NOT NULL,
        PRIMARY KEY (seq, issuer, subject))",
    "CREATE TABLE outbox (
        seq BIGINT NOT NULL,
        hook TEXT NOT NULL,
        body TEXT NOT NULL,
        created_at BIGINT NOT NULL,
        attempts BIGINT NOT NULL,
        next_at BIGINT NOT NULL,
        dead BIGINT NOT NULL,
        problem TEXT,
        PRIMARY KEY (seq, hook))",
    "CREATE INDEX outbox_by_time ON outbox (hook, dead, next_at)",
];

/// The history refuses changes, and deletion of what has not been given up by moving its base.
const GUARDS_SQLITE: &[&str] = &[
    "CREATE TRIGGER history_is_not_changed BEFORE UPDATE ON history
     BEGIN SELECT RAISE(ABORT, 'the history cannot be changed'); END",
    "CREATE TRIGGER history_is_not_deleted BEFORE DELETE ON history
     WHEN OLD.seq > (SELECT base_seq FROM history_head WHERE id = 1)
     BEGIN SELECT RAISE(ABORT, 'the history cannot be deleted'); END",
];

const GUARDS_POSTGRES: &[&str] = &[
    "CREATE FUNCTION history_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
     BEGIN
        IF TG_OP = 'DELETE' AND OLD.seq <= (SELECT base_seq FROM history_head WHERE id = 1) THEN
            RETURN OLD;
        END IF;
        RAISE EXCEPTION 'the history can be neither changed nor deleted';
     END $$",
    "CREATE TRIGGER history_is_append_only BEFORE UPDATE OR DELETE ON history
     FOR EACH ROW EXECUTE FUNCTION history_is_append_only()",
    "CREATE FUNCTION history_is_not_truncated() RETURNS trigger LANGUAGE plpgsql AS $$
     BEGIN
        RAISE EXCEPTION 'the history can be neither changed nor deleted';
     END $$",
    "CREATE TRIGGER history_is_not_truncated BEFORE TRUNCATE ON history
     FOR EACH STATEMENT EXECUTE FUNCTION history_is_not_truncated()",
];

/// Makes the tables, unless they are there. Two processes that start at the same time do not get in each other's way.
pub(super) async fn create(connection: &mut AnyConnection, engine: Engine) -> Result<(), StoreError> {
    let mut transaction = match engine {
        Engine::Sqlite => connection.begin_with("BEGIN IMMEDIATE").await?,
        Engine::Postgres => {
            let mut transaction = connection.begin().await?;
            transaction.execute("SELECT CAST(pg_advisory_xact_lock(7305809) AS TEXT)").await?;
            transaction
        }
    };
    let exists = match engine {
        Engine::Sqlite => "SELECT COUNT(*) FROM sqlite_master WHERE name = 'schema_version'",
        Engine::Postgres => {
            "SELECT COUNT(*) FROM pg_catalog.pg_tables WHERE tablename = 'schema_version' AND schemaname = current_schema()"
        }
    };
    let exists: i64 = sqlx::query_scalar(exists).fetch_one(&mut *transaction).await?;
    if exists == 0 {
        let guards = match engine {
            Engine::Sqlite => GUARDS_SQLITE,
            Engine::Postgres => GUARDS_POSTGRES,
        };
        for statement in TABLES.iter().chain(guards) {
            transaction.execute(*statement).await?;
        }
        sqlx::query("INSERT INTO history_head (id, seq, hash, base_seq, base_hash) VALUES (1, 0, $1, 0, $2)")
            .bind(GENESIS)
            .bind(GENESIS)
            .execute(&mut *transaction)
            .await?;
    }
    let version: i64 =
        sqlx::query_scalar("SELECT version FROM schema_version WHERE id = 1").fetch_one(&mut *transaction).await?;
    if version != VERSION {
        return Err(StoreError::Corrupt("the tables have another version"));
    }
    transaction.commit().await?;
    Ok(())
}
