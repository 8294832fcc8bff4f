use harmonium::{Cpu, Rbm, Shape};

fn main() {
    let rbm = Rbm::new(Shape::new(6, 4).unwrap(), 1);
    let _ = Cpu::detect().unwrap().upload(rbm.view());
}
