//! The routes.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};

use crate::listings::{Draft, Listing, Listings};

type Repository = State<Arc<dyn Listings>>;

pub(crate) fn routes(listings: Arc<dyn Listings>) -> Router {
    Router::new()
        .route("/listings", post(create))
        .route("/listings/{id}", get(show).put(update).delete(delete))
        .route("/listings/{id}/photos", put(replace_photos))
        .route("/sellers/{seller}/listings", get(of_seller))
        .route("/sellers/{seller}/close", post(close_all))
        .with_state(listings)
}

async fn show(State(listings): Repository, Path(id): Path<i64>) -> Result<Response, Error> {
    Ok(match listings.get(id).await? {
        Some(listing) => Json(listing).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    })
}

async fn of_seller(
    State(listings): Repository,
    Path(seller): Path<i64>,
) -> Result<Json<Vec<Listing>>, Error> {
    Ok(Json(listings.of_seller(seller).await?))
}

async fn create(
    State(listings): Repository,
    Json(draft): Json<Draft>,
) -> Result<(StatusCode, Json<Listing>), Error> {
    let listing = listings.create(draft).await?;
    Ok((StatusCode::CREATED, Json(listing)))
}

async fn update(
    State(listings): Repository,
    Path(id): Path<i64>,
    Json(draft): Json<Draft>,
) -> Result<StatusCode, Error> {
    Ok(found(listings.update(id, draft).await?))
}

async fn replace_photos(
    State(listings): Repository,
    Path(id): Path<i64>,
    Json(urls): Json<Vec<String>>,
) -> Result<StatusCode, Error> {
    Ok(found(listings.replace_photos(id, urls).await?))
}

async fn close_all(
    State(listings): Repository,
    Path(seller): Path<i64>,
) -> Result<Json<u64>, Error> {
    Ok(Json(listings.close_all(seller).await?))
}

async fn delete(State(listings): Repository, Path(id): Path<i64>) -> Result<StatusCode, Error> {
    Ok(found(listings.delete(id).await?))
}

fn found(found: bool) -> StatusCode {
    if found {
        StatusCode::NO_CONTENT
    } else {
        StatusCode::NOT_FOUND
    }
}

/// Anything that went wrong, as axum's own examples have it: logged here, 500 to the caller.
#[derive(Debug)]
pub(crate) struct Error(Box<dyn std::error::Error + Send + Sync>);

impl<E: Into<Box<dyn std::error::Error + Send + Sync>>> From<E> for Error {
    fn from(error: E) -> Error {
        Error(error.into())
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        tracing::error!(error = %self.0, "a request failed");
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    }
}
