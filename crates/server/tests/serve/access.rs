//! Who may use the server: host names, pages of other origins, the key.

use serde_json::json;

use super::*;

#[test]
fn only_its_own_names_and_pages_are_answered() {
    let access = Access {
        hosts: ["gallery.example".to_owned()].into(),
        origins: vec!["http://localhost:5173".to_owned()],
        ..Access::default()
    };
    let server = start_with(limits(), connections(), access);
    let get = |head: &[&str]| ask(server.address, "GET", "/v1/models", head).unwrap();
    for head in [
        &["host: evil.example"][..],
        &[
            "host: evil.example:8000",
            "origin: http://evil.example:8000",
        ],
        &["host: localhost", "origin: http://evil.example"],
        &["host: localhost", "origin: null"],
        &["host: localhost", "host: evil.example"],
    ] {
        let found = get(head);
        assert_eq!(found.status, 403, "{head:?}");
        assert!(found.json()["error"]["code"].is_string(), "{head:?}");
        assert_eq!(found.header("access-control-allow-origin"), None);
    }
    for head in [
        &["host: localhost:9000"][..],
        &["host: [::1]"],
        &["host: gallery.example", "origin: https://gallery.example"],
        &["host: localhost", "origin: http://localhost"],
    ] {
        assert_eq!(get(head).status, 200, "{head:?}");
    }
    let allowed = get(&["host: localhost", "origin: http://localhost:5173"]);
    let origin = allowed.header("access-control-allow-origin");
    assert_eq!(
        (allowed.status, origin),
        (200, Some("http://localhost:5173"))
    );
    let preflight = |origin: &str| {
        let wish = [
            "host: 127.0.0.1",
            origin,
            "access-control-request-method: POST",
            "access-control-request-headers: authorization,content-type",
        ];
        ask(server.address, "OPTIONS", CHAT, &wish).unwrap()
    };
    let found = preflight("origin: http://localhost:5173");
    assert_eq!(found.status, 200);
    assert_eq!(
        found.header("access-control-allow-headers"),
        Some("authorization,content-type")
    );
    assert_eq!(found.header("access-control-allow-methods"), Some("post"));
    assert_eq!(preflight("origin: http://localhost:5174").status, 403);
    // Closed by default.
    let closed = start(limits());
    let wish = ["host: 127.0.0.1", "origin: http://localhost:5173"];
    assert_eq!(
        ask(closed.address, "OPTIONS", CHAT, &wish).unwrap().status,
        403
    );
    let page = ask(closed.address, "GET", "/", &[]).unwrap();
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self'"),
        "{policy}"
    );
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
}

#[test]
fn a_key_is_asked_for_where_there_is_one() {
    let access = Access {
        key: Some("secret".to_owned()),
        ..Access::default()
    };
    let server = start_with(limits(), connections(), access);
    let get = |path: &str, head: &[&str]| ask(server.address, "GET", path, head).unwrap();
    for head in [
        &[][..],
        &["authorization: Bearer wrong"],
        &["authorization: Bearer secret2"],
        &["authorization: Bearer secre"],
        &["authorization: Bearer"],
        &["authorization: Basic secret"],
    ] {
        let found = get("/v1/models", head);
        assert_eq!(found.status, 401, "{head:?}");
        assert_eq!(found.json()["error"]["code"], "invalid_api_key");
        assert_eq!(found.json()["error"]["type"], "invalid_request_error");
        assert_eq!(found.header("www-authenticate"), Some("bearer"));
    }
    assert_eq!(server.chat(&request(json!({}))).status, 401);
    assert_eq!(server.post("/attention", &request(json!({}))).status, 401);
    assert_eq!(
        get("/v1/models", &["authorization: Bearer secret"]).status,
        200
    );
    assert_eq!(
        get("/v1/models", &["Authorization: bearer secret"]).status,
        200
    );
    for open in ["/", "/page.js", "/page.css", "/health"] {
        assert_eq!(get(open, &[]).status, 200, "{open}");
    }
    // With a body that is still arriving.
    let large = json!({ "user": "x".repeat(900_000) });
    assert_eq!(server.chat(&large).status, 401);
}
