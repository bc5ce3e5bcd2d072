//! Every route of the service, in one table.

use std::convert::Infallible;
use std::sync::Arc;

use warp::Filter;

use super::app::App;
use super::body::json_object;
use super::candidate::candidate;
use super::mount::{Routes, asked};
use super::server::HttpLimits;
use super::{
    audit, bookings, bulk_events, causes, dead_letters, definitions, events, letter_groups, ops,
    participants, plan, redrives, saga_actions, sagas, verbs, why,
};

/// Mounts every route.
pub(crate) fn routes(app: &Arc<App>, limits: &HttpLimits) -> Routes {
    let get = || with(app).and(asked());
    let post = || with(app).and(asked()).and(json_object(limits));
    Routes::default()
        .mount::<bookings::__path_start_booking, _>(post().then(bookings::start_booking))
        .mount::<bookings::__path_start_booking_at_shop, _>(post().then(bookings::start_booking_at_shop))
        .mount::<bookings::__path_get_booking, _>(get().then(bookings::get_booking))
        .mount::<bookings::__path_get_booking_at_shop, _>(get().then(bookings::get_booking_at_shop))
        .mount::<sagas::__path_start_saga, _>(post().then(sagas::start_saga))
        .mount::<sagas::__path_list_sagas, _>(get().then(sagas::list_sagas))
        .mount::<sagas::__path_get_saga, _>(get().then(sagas::get_saga))
        .mount::<sagas::__path_get_history, _>(get().then(sagas::get_history))
        .mount::<why::__path_why_saga, _>(get().then(why::why_saga))
        .mount::<causes::__path_why_all, _>(get().then(causes::why_all))
        .mount::<events::__path_watch_saga, _>(get().then(events::watch_saga))
        .mount::<events::__path_watch_sagas, _>(get().then(events::watch_sagas))
        .mount::<sagas::__path_get_diagram, _>(get().then(sagas::get_diagram))
        .mount::<verbs::__path_cancel, _>(post().then(verbs::cancel))
        .mount::<verbs::__path_redrive, _>(post().then(verbs::redrive))
        .mount::<verbs::__path_skip, _>(post().then(verbs::skip))
        .mount::<verbs::__path_retry_now, _>(post().then(verbs::retry_now))
        .mount::<participants::__path_list_participants, _>(get().then(participants::list_participants))
        .mount::<participants::__path_pause_participant, _>(post().then(participants::pause_participant))
        .mount::<participants::__path_resume_participant, _>(post().then(participants::resume_participant))
        .mount::<audit::__path_list_audit, _>(get().then(audit::list_audit))
        .mount::<dead_letters::__path_list_letters, _>(get().then(dead_letters::list_letters))
        .mount::<letter_groups::__path_list_groups, _>(get().then(letter_groups::list_groups))
        .mount::<dead_letters::__path_get_letter, _>(get().then(dead_letters::get_letter))
        .mount::<dead_letters::__path_redrive_letter, _>(post().then(dead_letters::redrive_letter))
        .mount::<dead_letters::__path_discard_letter, _>(post().then(dead_letters::discard_letter))
        .mount::<redrives::__path_start_redrive, _>(post().then(redrives::start_redrive))
        .mount::<redrives::__path_list_redrives, _>(get().then(redrives::list_redrives))
        .mount::<redrives::__path_get_redrive, _>(get().then(redrives::get_redrive))
        .mount::<bulk_events::__path_watch_redrive, _>(get().then(bulk_events::watch_redrive))
        .mount::<redrives::__path_list_redriven, _>(get().then(redrives::list_redriven))
        .mount::<redrives::__path_cancel_redrive, _>(post().then(redrives::cancel_redrive))
        .mount::<saga_actions::__path_start_saga_action, _>(post().then(saga_actions::start_saga_action))
        .mount::<saga_actions::__path_list_saga_actions, _>(get().then(saga_actions::list_saga_actions))
        .mount::<saga_actions::__path_get_saga_action, _>(get().then(saga_actions::get_saga_action))
        .mount::<bulk_events::__path_watch_saga_action, _>(get().then(bulk_events::watch_saga_action))
        .mount::<saga_actions::__path_list_acted_on, _>(get().then(saga_actions::list_acted_on))
        .mount::<saga_actions::__path_cancel_saga_action, _>(post().then(saga_actions::cancel_saga_action))
        .mount::<definitions::__path_list_definitions, _>(get().then(definitions::list_definitions))
        .mount::<definitions::__path_get_definition, _>(get().then(definitions::get_definition))
        .mount::<plan::__path_get_plan, _>(get().then(plan::get_plan))
        .mount::<definitions::__path_register_definition, _>(
            with(app).and(asked()).and(candidate(limits)).then(definitions::register_definition),
        )
        .mount::<definitions::__path_check_definition, _>(
            with(app).and(asked()).and(candidate(limits)).then(definitions::check_definition),
        )
        .mount::<ops::__path_livez, _>(get().then(ops::livez))
        .mount::<ops::__path_readyz, _>(get().then(ops::readyz))
        .mount::<ops::__path_metrics, _>(get().then(ops::metrics))
        .mount::<ops::__path_openapi, _>(get().then(ops::openapi))
        .mount::<ops::__path_asyncapi, _>(get().then(ops::asyncapi))
}

fn with(app: &Arc<App>) -> impl Filter<Extract = (Arc<App>,), Error = Infallible> + Clone + use<> {
    let app = app.clone();
    warp::any().map(move || app.clone())
}
