//! `harmonium filters`.

use crate::{
    Failure,
    arguments::{Sides, named, sides},
    console, data,
};
use clap::Args;
use harmonium::{
    Error, model,
    raster::{self, FilterScale},
};
use std::path::PathBuf;

#[derive(Args)]
pub struct Filters {
    /// A model file, as train writes it.
    pub model: PathBuf,
    /// Height and width of the images that the visible units are [default: square].
    #[arg(long, value_name = "HxW", value_parser = sides)]
    pub image: Option<Sides>,
    /// Tiles from top to bottom and from left to right [default: 10x10, or no more than there are hidden units].
    #[arg(long, value_name = "RxC", value_parser = sides)]
    pub tile: Option<Sides>,
    /// Stretch each tile on its own, so that its form is seen (own), or show all weights on one scale about 0, so that sizes
    /// can be compared (common).
    #[arg(long, value_name = "own|common", default_value = "own", value_parser = named(FilterScale::ALL), hide_possible_values = true)]
    pub scale: FilterScale,
    /// The picture to write.
    #[arg(long, value_name = "FILE", default_value = "filters.png")]
    pub out: PathBuf,
}

pub fn run(options: &Filters) -> Result<(), Failure> {
    let rbm = data::pictured_part(&model::load(&options.model)?)?;
    let n_hidden = rbm.shape().n_hidden();
    let (down, across) = options.tile.unwrap_or_else(|| data::grid(n_hidden.min(100)));
    let sides = data::sides(options.image, None, rbm.shape().n_visible())?;
    let picture = raster::filters(rbm.view(), sides, (down, across), options.scale);
    let picture = picture.map_err(|problem| match problem {
        Error::Argument { what: "picture", expected, found } => Error::Argument { what: "--tile", expected, found },
        other => other,
    })?;
    raster::write_png(&picture, &options.out)?;
    let file = options.out.display();
    let (shown, height, width) = (down.saturating_mul(across).min(n_hidden), picture.height(), picture.width());
    console::say(&format!("{file}: {shown} of {n_hidden} filters, {height} × {width} pixels"));
    Ok(())
}
