// Detections of a picture with OpenCV, from an ONNX file of export_model.py --raw --batch 1; docs/deploy.md says how.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <opencv2/dnn.hpp>
#include <opencv2/imgcodecs.hpp>

// Rows of logits, background first, become probabilities
static void softmax(cv::Mat &rows) {
    cv::Mat most, sums;
    cv::reduce(rows, most, 1, cv::REDUCE_MAX);  // subtracted, so that no power is infinite
    rows -= cv::repeat(most, 1, rows.cols);
    cv::exp(rows, rows);
    cv::reduce(rows, sums, 1, cv::REDUCE_SUM);
    rows /= cv::repeat(sums, 1, rows.cols);
}

static cv::Point2d inside(const cv::Point2d &point) {
    return {std::clamp(point.x, 0.0, 1.0), std::clamp(point.y, 0.0, 1.0)};
}

static void detect(const char *model, const char *facts, const char *file) {
    const cv::FileStorage about(facts, cv::FileStorage::READ);
    cv::Mat anchors, variances;  // anchors: [A,4] (cx, cy, w, h) in 0..1
    about["anchors"] >> anchors, about["variances"] >> variances;
    CV_Assert(anchors.cols == 4 && variances.total() == 2 && !about["nms_iou"].empty() && "MODEL.yml of deploy.md");
    const float center = variances.at<float>(0), size = variances.at<float>(1);
    const double longest = about["size_offset_limit"];
    const bool clips = (int)about["clip_before_nms"] != 0;
    const cv::Mat picture = cv::imread(file);
    CV_Assert(!picture.empty() && "a PICTURE that can be read");
    cv::dnn::Net net = cv::dnn::readNetFromONNX(model);
    net.setInput(cv::dnn::blobFromImage(picture, 1, cv::Size((int)about["width"], (int)about["height"]), {}, true));
    std::vector<cv::Mat> outputs;
    net.forward(outputs, std::vector<cv::String>{"logits", "offsets"});
    cv::Mat scores = outputs[0].reshape(1, anchors.rows), offsets = outputs[1].reshape(1, anchors.rows);
    CV_Assert(offsets.cols == 4 && "MODEL.yml of MODEL.onnx");
    softmax(scores);
    std::vector<cv::Rect2d> boxes;
    for (int i = 0; i < anchors.rows; i++) {
        const float *a = anchors.ptr<float>(i), *o = offsets.ptr<float>(i);
        const double w = std::exp(std::min<double>(o[2] * size, longest)) * a[2];
        const double h = std::exp(std::min<double>(o[3] * size, longest)) * a[3];
        const double x = o[0] * center * a[2] + a[0], y = o[1] * center * a[3] + a[1];
        cv::Point2d low(x - w / 2, y - h / 2), high(x + w / 2, y + h / 2);
        if (clips) low = inside(low), high = inside(high);
        boxes.emplace_back(cv::Point2d(low.x * picture.cols, low.y * picture.rows),
                           cv::Point2d(high.x * picture.cols, high.y * picture.rows));
    }
    for (int label = 1; label < scores.cols; label++) {  // 0 is background
        const std::vector<float> found = scores.col(label).clone();
        std::vector<int> kept;
        cv::dnn::NMSBoxes(boxes, found, 0.5f, (float)about["nms_iou"], kept);
        for (int i : kept) {
            const cv::Point2d low = boxes[i].tl(), high = boxes[i].br();
            std::printf("%d %.6f %.3f %.3f %.3f %.3f\n", label - 1, found[i], low.x, low.y, high.x, high.y);
        }
    }
}

int main(int count, char **words) {
    if (count != 4) {
        std::fprintf(stderr, "usage: %s MODEL.onnx MODEL.yml PICTURE\n", words[0]);
        return 1;
    }
    try {
        detect(words[1], words[2], words[3]);
    } catch (const std::exception &error) {  // cv::Exception, which names the place in OpenCV
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
}
