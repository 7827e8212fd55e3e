// Detections of a picture with OpenCV, from an ONNX file of export_model.py --raw --batch 1; docs/deploy.md says how.
#include <cmath>
#include <cstdio>
#include <opencv2/dnn.hpp>
#include <opencv2/imgcodecs.hpp>

int main(int, char **argv) {  // MODEL.onnx MODEL.yml PICTURE
    cv::FileStorage about(argv[2], cv::FileStorage::READ);
    cv::Mat anchors, variances, picture = cv::imread(argv[3]);  // anchors: [A,4] (cx, cy, w, h) in 0..1
    about["anchors"] >> anchors, about["variances"] >> variances;
    const float center = variances.at<float>(0), size = variances.at<float>(1);
    cv::dnn::Net net = cv::dnn::readNetFromONNX(argv[1]);
    net.setInput(cv::dnn::blobFromImage(picture, 1, cv::Size((int)about["width"], (int)about["height"]), {}, true));
    std::vector<cv::Mat> outputs;
    net.forward(outputs, std::vector<cv::String>{"logits", "offsets"});
    cv::Mat scores = outputs[0].reshape(1, anchors.rows), offsets = outputs[1].reshape(1, anchors.rows), sums;
    cv::exp(scores, scores);
    cv::reduce(scores, sums, 1, cv::REDUCE_SUM);
    for (int label = 1; label < scores.cols; label++) {  // 0 is background
        std::vector<cv::Rect2d> boxes;
        std::vector<float> found;
        std::vector<int> kept;
        for (int i = 0; i < anchors.rows; i++) {
            const float *a = anchors.ptr<float>(i), *o = offsets.ptr<float>(i);
            const double w = std::exp(o[2] * size) * a[2], h = std::exp(o[3] * size) * a[3];
            const double x = o[0] * center * a[2] + a[0] - w / 2, y = o[1] * center * a[3] + a[1] - h / 2;
            boxes.emplace_back(x * picture.cols, y * picture.rows, w * picture.cols, h * picture.rows);
            found.push_back(scores.at<float>(i, label) / sums.at<float>(i));
        }
        cv::dnn::NMSBoxes(boxes, found, 0.5f, 0.45f, kept);
        for (int i : kept) {
            const cv::Point2d low = boxes[i].tl(), high = boxes[i].br();
            std::printf("%d %.6f %.3f %.3f %.3f %.3f\n", label - 1, found[i], low.x, low.y, high.x, high.y);
        }
    }
}
