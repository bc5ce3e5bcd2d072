//! Lists that come in pages.

use std::future::Future;
use std::pin::Pin;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Which page of a list, and how long it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paging {
    /// Entries of a page, up to 500; the service's own default if it is left out.
    pub limit: Option<u32>,
    /// The [`Page::next_cursor`] of the page before.
    pub cursor: Option<String>,
}

impl Paging {
    /// The first page, with at most so many entries.
    pub const fn first(limit: u32) -> Self {
        Self { limit: Some(limit), cursor: None }
    }
}

/// Some entries of a list, newest first unless the list says otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Page<T> {
    /// The entries.
    pub items: Vec<T>,
    /// Ask again with it for the next page; absent on the last one. A page may be short, even empty, and have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

type Asked<T> = Pin<Box<dyn Future<Output = Result<Page<T>, Error>> + Send>>;

/// All pages of a list, one after the other, each asked for when it is wanted.
pub struct Pages<T> {
    ask: Box<dyn Fn(Paging) -> Asked<T> + Send>,
    /// `None` when the last page was given.
    next: Option<Paging>,
}

impl<T> Pages<T> {
    pub(crate) fn new(limit: u32, ask: impl Fn(Paging) -> Asked<T> + Send + 'static) -> Self {
        Self { ask: Box::new(ask), next: Some(Paging::first(limit)) }
    }

    /// The next page's entries; `None` after the last page.
    ///
    /// # Errors
    /// As the list itself. Asking again asks for the same page.
    pub async fn next(&mut self) -> Result<Option<Vec<T>>, Error> {
        let Some(paging) = self.next.clone() else { return Ok(None) };
        let page = (self.ask)(paging.clone()).await?;
        self.next = page.next_cursor.map(|cursor| Paging { cursor: Some(cursor), ..paging });
        Ok(Some(page.items))
    }

    /// All entries that are left.
    ///
    /// # Errors
    /// As the list itself.
    pub async fn collect(mut self) -> Result<Vec<T>, Error> {
        let mut all = Vec::new();
        while let Some(page) = self.next().await? {
            all.extend(page);
        }
        Ok(all)
    }
}
