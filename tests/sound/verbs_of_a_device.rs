use harmonium::{Cpu, Device, Rbm, Rows, Shape, Values};

fn main() {
    let device = Device::from(Cpu::detect().unwrap());
    let rbm = Rbm::new(Shape::new(6, 4).unwrap(), 1);
    let parameters = device.upload(rbm.view());
    // Rows of another width than the parameters: nothing below this floor would notice.
    let rows = Rows::new(Values::F32(&[0.0; 14]), 7).unwrap();
    let _ = device.free_energy(&parameters.unwrap(), rows.into(), &mut [0.0; 2]);
}
