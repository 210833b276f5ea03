//! What the path of an operation or page names, and so who it is there for.

/// Where a thing that lives in a Space is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the private Space.
    Private,
    /// In the open one.
    Open,
}

/// For whom a thing is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thing {
    /// For everyone of the tenant who may call the operation at all.
    OfTheTenant,
    /// For whoever sees the Space that it is in.
    InTheSpace,
    /// For whoever sees the private Space: there is none of its kind in the other.
    InThePrivateSpace,
    /// For Ana alone.
    Anas,
    /// For Ana, and for operators.
    AnasAndOperators,
}

/// Operations that name their Space in a field of their body. One that is not there for the caller is refused as any other
/// wrong value of the field is.
pub const NAME_THEIR_SPACE_IN_A_FIELD: [&str; 2] = ["POST /v1/threads", "POST /v1/webhooks"];

/// What the parameters of this path name. `name` is the method and the path.
pub fn things(name: &str) -> Vec<Thing> {
    let path = name.split(' ').next_back().unwrap();
    let is_own = path.starts_with("/me/") || path.starts_with("/v1/me/");
    let ends = name.starts_with("DELETE ") || path.ends_with("/remove");
    let mut things = Vec::new();
    let mut before = "";
    for segment in path.split('/') {
        let kind = match segment {
            "{id}" | "{user_id}" => before,
            "{space_id}" => "spaces",
            "{server_id}" => "mcp-servers",
            "{webhook_id}" => "webhooks",
            // An asset, and the key of a registration, which the callback checks by itself.
            "{name}" | "{key}" => continue,
            segment => {
                assert!(!segment.starts_with('{'), "{name}: say in guards/walk/things.rs what {segment} names");
                before = segment;
                continue;
            }
        };
        things.push(match kind {
            "spaces" | "threads" | "turns" | "webhooks" | "deliveries" => Thing::InTheSpace,
            "messages" => Thing::InThePrivateSpace,
            "sessions" => Thing::Anas,
            "connections" if is_own => Thing::Anas,
            // Everybody's own connection to the server.
            "mcp-servers" if path.ends_with("/connection") => Thing::Anas,
            "tokens" => Thing::AnasAndOperators,
            // Of the Space's members each may let go of themselves, and operators of anyone.
            "members" if ends => Thing::AnasAndOperators,
            "members" | "users" | "people" | "mcp-servers" | "connections" => Thing::OfTheTenant,
            kind => panic!("{name}: say in guards/walk/things.rs for whom {kind} are there"),
        });
    }
    if NAME_THEIR_SPACE_IN_A_FIELD.contains(&name) {
        things.push(Thing::InTheSpace);
    }
    things
}

/// The places at which to try what names these things.
pub fn places(things: &[Thing]) -> &'static [Place] {
    if things.contains(&Thing::InTheSpace) { &[Place::Private, Place::Open] } else { &[Place::Private] }
}
