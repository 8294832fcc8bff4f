//! `harmonium filters`: draws the weights of hidden units as images.

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
    /// Model file, as train writes it.
    pub model: PathBuf,
    /// Height and width of the visible units as an image, in pixels [default: square].
    #[arg(long, value_name = "HxW", value_parser = sides)]
    pub image: Option<Sides>,
    /// Rows and columns of tiles, one tile a hidden unit [default: 10x10, or as many as there are hidden units].
    #[arg(long, value_name = "RxC", value_parser = sides)]
    pub tile: Option<Sides>,
    /// Grey scale of the tiles.
    ///
    /// own: from the least to the greatest weight of each tile, to show shapes. common: one scale around 0 for all tiles, to compare sizes.
    #[arg(
        long,
        value_name = "own|common",
        default_value = "own",
        value_parser = named(FilterScale::ALL),
        hide_possible_values = true
    )]
    pub scale: FilterScale,
    /// PNG image to write.
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
